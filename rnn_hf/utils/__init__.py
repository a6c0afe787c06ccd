"""What all commands share: text made safe, masked secrets, one line for each mistake."""
