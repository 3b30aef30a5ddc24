"""Kernels of locked environments for a Jupyter, or an editor, of this machine.

`specs` are the kernelspecs that such a program finds, `kernel` is what they start: a kernel in a container,
reached through the ports that its client has chosen. `inside` is what is said to the environment's Python.
"""
