"""``python -m dropdrift`` is the command ``dropdrift``, for launchers such as torchrun."""

from dropdrift.launchers.main import main

if __name__ == "__main__":
    main()
