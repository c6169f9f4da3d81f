"""The recurrent policy of the seed paper: an LSTM that learns by policy gradient."""
