"""What makes training fast and says nothing about the method. `--set fast=false` runs everything without it."""
