// Functions without a body, as go:linkname has them, need an assembly file in their package.
