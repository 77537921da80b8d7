"""LibriSpeech."""
