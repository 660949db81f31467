"""Sound in: log-mel front-ends, resampling and spectrogram augmentation (numpy at import)."""
