"""`python -m cai_bootstrap` is the `cai` command; every other way to it begins here too."""

from cai_bootstrap.interpreter import leave_current_directory

leave_current_directory()  # this module is a process's first: before click, yaml and torch are looked for

from cai_bootstrap.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
