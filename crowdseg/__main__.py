"""``python -m crowdseg``."""

from crowdseg.cli import main

if __name__ == "__main__":
    main()
