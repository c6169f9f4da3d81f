"""Images: where they lie, how they are split, what a network reads of them."""
