"""What notebooks and scripts import, which packages bring it, and the environment a notebook is bound to.

Everything here is read and never run. nbformat is imported only for notebooks of before 2015.
"""
