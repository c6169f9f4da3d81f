"""The recurrent policy: an LSTM trained by policy gradient."""
