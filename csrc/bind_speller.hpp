#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace streamtag {

/// Adds the class `Speller`.
void bind_speller(pybind11::module_& m);

}  // namespace streamtag
