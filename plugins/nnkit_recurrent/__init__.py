"""Recurrent networks: Elman RNN, GRU and LSTM."""
