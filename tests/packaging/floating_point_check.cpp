// Computes in floating point between integers: what the check of floors 0-6 must not let pass.
int half(int x) {
  return static_cast<int>(x * 0.5);
}
