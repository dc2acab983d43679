"""Around a model of speech: reading and changing audio, recordings to train on, how far words reach, pictures."""
