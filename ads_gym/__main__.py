"""`python -m ads_gym` is `ads-gym`."""

from ads_gym.cli import main

main()
