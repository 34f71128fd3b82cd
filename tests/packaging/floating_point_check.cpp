// Computes in floating point between integers: the check of the integer layers must find it.
int half(int x) {
  return static_cast<int>(x * 0.5);
}
