"""`exec`: notebooks run without a browser in a locked environment, cell by cell; results are written.

`driver` runs inside, in the environment's own Python, and reports each thing that a kernel says on its
stdout. Everything else happens outside: `outcome` makes outputs of it, `run` keeps a notebook and its
driver together, `batch` runs several. So whatever happens inside, what was put out until then is here.
"""
