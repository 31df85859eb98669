"""Errors, plain numbers, files and devices, which every other room uses. The ground imports no other room."""
