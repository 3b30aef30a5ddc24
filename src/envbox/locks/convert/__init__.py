"""What others wrote, made ours, and ours written as others read it.

A foreign lockfile says less than a build needs. `find` reads one, `complete` finds out what is missing,
`roots` writes the spec that would ask for it, and `taking` puts these together. `export` goes the other way.
"""
