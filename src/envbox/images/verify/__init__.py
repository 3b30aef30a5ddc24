"""Whether an image is what its lockfile says: `saved` (an image as it lies somewhere, read once as a stream),
`rebuild` (made anew and compared), `content` (held against what its own packages list).
"""
