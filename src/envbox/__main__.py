"""`python -m envbox`."""

from envbox.cli import main

main()
