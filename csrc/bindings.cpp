// The Python module `_core`: front ends and rings.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "extractor.hpp"
#include "plan.hpp"
#include "ring.hpp"

namespace py = pybind11;

namespace streamtag {
namespace {

/// The enumerator that is called `name` in Python.
template <class Enum>
Enum named(const char* field, const std::string& name,
           std::initializer_list<std::pair<const char*, Enum>> enumerators) {
  std::string known;
  for (const auto& [text, value] : enumerators) {
    if (name == text) return value;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  throw std::invalid_argument(std::string(field) + ": expected one of " + known + ", got '" + name +
                              "'");
}

std::string shape_of(const py::array& array) {
  return py::str(array.attr("shape")).cast<std::string>();
}

[[noreturn]] void refuse(const char* name, const py::handle& object, py::ssize_t ndim) {
  const std::string expected = std::string(name) + ": expected a C-contiguous float32 array of " +
                               std::to_string(ndim) + " dimension" + (ndim == 1 ? "" : "s") +
                               ", got ";
  if (!py::isinstance<py::array>(object))
    throw py::type_error(expected + py::str(py::type::of(object)).cast<std::string>());
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (!py::isinstance<py::array_t<float>>(array))
    throw py::type_error(expected + py::str(array.dtype()).cast<std::string>());
  const char* memory = array.ndim() == ndim ? "strided memory of shape " : "shape ";
  throw py::value_error(expected + memory + shape_of(array));
}

/// `object` as a C-contiguous float32 array of `ndim` dimensions, without a copy.
py::array_t<float> floats(const char* name, const py::handle& object, py::ssize_t ndim) {
  const bool fits = py::isinstance<py::array_t<float, py::array::c_style>>(object) &&
                    py::reinterpret_borrow<py::array>(object).ndim() == ndim;
  if (!fits) refuse(name, object, ndim);
  return py::reinterpret_borrow<py::array_t<float>>(object);
}

/// Samples of a block. They can be read without the GIL for as long as this object exists.
struct Samples {
  explicit Samples(const py::handle& object) : array(floats("samples", object, 1)) {
    data = array.data();
    count = array.size();
  }
  py::array_t<float> array;
  const float* data;
  std::int64_t count;
};

Spec spec_from(const py::kwargs& options) {
  Spec spec;
  const auto text = [&](const char* field) { return options[field].cast<std::string>(); };
  const auto whole = [&](const char* field) { return options[field].cast<std::int64_t>(); };
  const auto number = [&](const char* field) { return options[field].cast<double>(); };
  spec.kind = named<Kind>("kind", text("kind"), {{"logmel", Kind::kLogMel}, {"raw", Kind::kRaw}});
  spec.sample_rate = whole("sample_rate");
  spec.n_fft = whole("n_fft");
  spec.win_length = whole("win_length");
  spec.hop = whole("hop");
  spec.window =
      named<Window>("window", text("window"),
                    {{"hann", Window::kHann}, {"hann_symmetric", Window::kHannSymmetric}});
  spec.spectrum =
      named<Spectrum>("spectrum", text("spectrum"),
                      {{"power", Spectrum::kPower}, {"magnitude", Spectrum::kMagnitude}});
  spec.n_mels = whole("n_mels");
  spec.f_min = number("f_min");
  spec.f_max = number("f_max");
  spec.mel_scale = named<MelScale>(
      "mel_scale", text("mel_scale"),
      {{"slaney", MelScale::kSlaney}, {"htk", MelScale::kHtk}, {"essentia", MelScale::kEssentia}});
  spec.mel_norm = named<MelNorm>("mel_norm", text("mel_norm"),
                                 {{"none", MelNorm::kNone}, {"slaney", MelNorm::kSlaney}});
  spec.order = named<Order>("order", text("order"),
                            {{"mel_log", Order::kMelLog}, {"log_mel", Order::kLogMel}});
  spec.weighting = named<Weighting>("weighting", text("weighting"),
                                    {{"none", Weighting::kNone}, {"a", Weighting::kA}});
  spec.log =
      named<Log>("log", text("log"),
                 {{"none", Log::kNone}, {"ln", Log::kLn}, {"db", Log::kDb}, {"ln1p", Log::kLn1p}});
  spec.log_multiplier = number("log_multiplier");
  spec.log_floor = number("log_floor");
  spec.log_offset = number("log_offset");
  spec.log_gain = number("log_gain");
  spec.gain = number("gain");
  spec.top_db = options["top_db"].cast<std::optional<double>>();
  spec.framing = named<Framing>("framing", text("framing"),
                                {{"causal", Framing::kCausal}, {"centered", Framing::kCentered}});
  spec.padding = named<Padding>("padding", text("padding"),
                                {{"reflect", Padding::kReflect}, {"zero", Padding::kZero}});
  spec.tail = named<Tail>("tail", text("tail"), {{"floor", Tail::kFloor}, {"ceil", Tail::kCeil}});
  if (spec.f_max == 0.0) spec.f_max = 0.5 * static_cast<double>(spec.sample_rate);
  if (spec.win_length == 0) spec.win_length = spec.n_fft;
  return spec;
}

std::unique_ptr<Extractor> make_extractor(std::int64_t start_frame, const std::string& isa,
                                          const py::kwargs& options) {
  return std::make_unique<Extractor>(plan_for(spec_from(options), isa.c_str()), start_frame);
}

/// New memory for `count` frames, and a ring in it.
struct NewFrames {
  NewFrames(std::int64_t count, std::int64_t width)
      : array({count, width}), ring(array.mutable_data(), count, width) {}
  py::array_t<float> array;
  FrameRing ring;
};

py::array_t<float> push(Extractor& extractor, const py::object& block) {
  const Samples samples(block);
  NewFrames out(extractor.due(samples.count), extractor.spec().width());
  py::gil_scoped_release release;
  extractor.push(samples.data, samples.count, out.ring);
  return std::move(out.array);
}

py::array_t<float> close(Extractor& extractor) {
  NewFrames out(extractor.due_at_close(), extractor.spec().width());
  py::gil_scoped_release release;
  extractor.close(out.ring);
  return std::move(out.array);
}

void require_width(const Extractor& extractor, const FrameRing& ring) {
  if (extractor.spec().width() != ring.width())
    throw std::invalid_argument("ring: expected frames of width " +
                                std::to_string(extractor.spec().width()) + ", got " +
                                std::to_string(ring.width()));
}

std::int64_t push_into(Extractor& extractor, const py::object& block, FrameRing& ring) {
  const Samples samples(block);
  require_width(extractor, ring);
  const std::int64_t before = ring.end();
  py::gil_scoped_release release;
  extractor.push(samples.data, samples.count, ring);
  return ring.end() - before;
}

std::int64_t close_into(Extractor& extractor, FrameRing& ring) {
  require_width(extractor, ring);
  const std::int64_t before = ring.end();
  py::gil_scoped_release release;
  extractor.close(ring);
  return ring.end() - before;
}

void require_equal(const char* name, std::size_t got, std::size_t expected) {
  if (got != expected)
    throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(expected) +
                                " of them, got " + std::to_string(got));
}

std::vector<std::int64_t> push_many(const std::vector<Extractor*>& extractors,
                                    const std::vector<py::object>& blocks,
                                    const std::vector<FrameRing*>& rings) {
  require_equal("blocks", blocks.size(), extractors.size());
  require_equal("rings", rings.size(), extractors.size());
  if (std::set(extractors.begin(), extractors.end()).size() != extractors.size() ||
      std::set(rings.begin(), rings.end()).size() != rings.size())
    throw std::invalid_argument("front ends: expected each one once, got one of them twice");
  std::vector<Samples> samples;
  samples.reserve(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    samples.emplace_back(blocks[i]);
    require_width(*extractors[i], *rings[i]);
    extractors[i]->require_open();
  }
  std::vector<std::int64_t> counts(blocks.size());
  py::gil_scoped_release release;
  Batch batch;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::int64_t before = rings[i]->end();
    extractors[i]->push(samples[i].data, samples[i].count, *rings[i], batch);
    counts[i] = rings[i]->end() - before;
  }
  return counts;
}

py::array_t<float> copy(const FrameRing& ring, std::int64_t first, std::int64_t count) {
  ring.require(first, count);
  py::array_t<float> out({count, ring.width()});
  ring.copy(first, count, out.mutable_data());
  return out;
}

void append(FrameRing& ring, const py::object& frames) {
  const py::array_t<float> rows = floats("frames", frames, 2);
  if (rows.shape(1) != ring.width())
    throw std::invalid_argument("frames: expected shape (n, " + std::to_string(ring.width()) +
                                "), got " + shape_of(rows));
  ring.append(rows.data(), rows.shape(0));
}

void gather(const std::vector<const FrameRing*>& rings, const std::vector<std::int64_t>& firsts,
            const py::object& counts, const py::object& out) {
  py::array_t<float> rows = floats("out", out, 3);
  if (!rows.writeable()) throw py::value_error("out: expected writable memory, got read-only");
  const std::vector<std::int64_t> lengths =
      PySequence_Check(counts.ptr()) != 0
          ? counts.cast<std::vector<std::int64_t>>()
          : std::vector<std::int64_t>(rings.size(), counts.cast<std::int64_t>());
  require_equal("firsts", firsts.size(), rings.size());
  require_equal("counts", lengths.size(), rings.size());
  require_equal("rows of out", static_cast<std::size_t>(rows.shape(0)), rings.size());
  const std::int64_t window = rows.shape(1);
  const std::int64_t width = rows.shape(2);
  for (std::size_t i = 0; i < rings.size(); ++i) {
    if (rings[i]->width() != width)
      throw std::invalid_argument("out: expected rows of width " +
                                  std::to_string(rings[i]->width()) + ", got shape " +
                                  shape_of(rows));
    if (lengths[i] > window)
      throw std::invalid_argument("counts: expected at most " + std::to_string(window) +
                                  " frames, got " + std::to_string(lengths[i]));
    rings[i]->require(firsts[i], lengths[i]);
  }
  float* row = rows.mutable_data();
  py::gil_scoped_release release;
  for (std::size_t i = 0; i < rings.size(); ++i, row += window * width)
    rings[i]->copy(firsts[i], lengths[i], row + (window - lengths[i]) * width);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Log-mel frames of many streams, the rings that hold them, messages as JSON.";

  py::class_<FrameRing>(m, "FrameRing")
      .def(py::init<std::int64_t, std::int64_t, std::int64_t>(), py::arg("capacity"),
           py::arg("width"), py::arg("start") = 0)
      .def_property_readonly("capacity", &FrameRing::capacity)
      .def_property_readonly("width", &FrameRing::width)
      .def_property_readonly("begin", &FrameRing::begin)
      .def_property_readonly("end", &FrameRing::end)
      .def("push", &append, py::arg("frames"))
      .def("copy", &copy, py::arg("first"), py::arg("count"))
      .def("clear", &FrameRing::clear, py::arg("start") = 0);

  py::class_<Extractor>(m, "Extractor")
      .def(py::init(&make_extractor), py::kw_only(), py::arg("start_frame") = 0,
           py::arg("isa") = "")
      .def_property_readonly("isa", &Extractor::isa)
      .def_property_readonly("position", &Extractor::position)
      .def_property_readonly("nonfinite", &Extractor::nonfinite)
      .def_property("peak", &Extractor::peak, &Extractor::set_peak)
      .def("push", &push, py::arg("samples"))
      .def("push_into", &push_into, py::arg("samples"), py::arg("ring"))
      .def("close", &close)
      .def("close_into", &close_into, py::arg("ring"))
      .def("reset", &Extractor::reset, py::arg("start_frame") = 0);

  m.def("push_many", &push_many, py::arg("extractors"), py::arg("blocks"), py::arg("rings"));
  m.def("gather", &gather, py::arg("rings"), py::arg("firsts"), py::arg("counts"), py::arg("out"));
  m.def("instruction_sets", [] {
    const auto sets = instruction_sets();
    return std::vector<std::string>(sets.begin(), sets.end());
  });
  m.def("isa", [] { return std::string(kernel_for("").isa); });
}

}  // namespace streamtag
