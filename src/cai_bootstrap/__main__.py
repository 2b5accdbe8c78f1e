"""`python -m cai_bootstrap` is the `cai` command."""

from cai_bootstrap.cli import main

if __name__ == "__main__":
    main()
