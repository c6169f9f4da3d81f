"""The game: an episode, what an agent sees of it, what it is paid, and Gymnasium's two environments around it."""
