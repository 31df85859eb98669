"""The ground under every room: what can go wrong, plain numbers, files, devices. It imports no other room."""
