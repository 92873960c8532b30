package main

import "io"

func timeAll(dir string, rounds int, only string, out io.Writer) error { return nil }
