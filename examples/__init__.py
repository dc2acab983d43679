"""The scripts as they are installed: `python -m attention_rnn.examples.run_seq2seq` where there is no clone."""
