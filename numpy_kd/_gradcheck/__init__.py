"""The parts that `numpy_kd.gradcheck` is put together from; import from there."""
