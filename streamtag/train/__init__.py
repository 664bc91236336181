"""The annexe: making models. Nothing outside it needs it, and the daemon never loads it."""
