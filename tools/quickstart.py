"""Pre-train, look, fine-tune, compare and take the weights, on images that are already installed.

python tools/quickstart.py [--quick | --seeds 0 1 2]
"""

from a2mim.quickstart import main

if __name__ == '__main__':
    main()
