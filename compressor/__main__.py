"""`python -m compressor` is the same as `compressor`."""

from compressor.cli.main import main

if __name__ == "__main__":
    main()
