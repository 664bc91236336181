// The Python module `_core`: front ends and rings.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "audio_ring.hpp"
#include "channels.hpp"
#include "extractor.hpp"
#include "level.hpp"
#include "pcm_reader.hpp"
#include "plan.hpp"
#include "resampler.hpp"
#include "ring.hpp"
#include "stream_audio.hpp"

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
  spec.mel_scale = named<MelScale>("mel_scale", text("mel_scale"),
                                   {{"slaney", MelScale::kSlaney},
                                    {"htk", MelScale::kHtk},
                                    {"essentia", MelScale::kEssentia},
                                    {"kaldi", MelScale::kKaldi}});
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
  spec.preemphasis = number("preemphasis");
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

const char* text_of(LevelKind kind) {
  switch (kind) {
    case LevelKind::kSilent:
      return "silent";
    case LevelKind::kSound:
      return "sound";
    default:
      return "clipped";
  }
}

const char* text_of(ChannelState state) {
  switch (state) {
    case ChannelState::kStereo:
      return "stereo";
    case ChannelState::kLeftSilent:
      return "left_silent";
    case ChannelState::kRightSilent:
      return "right_silent";
    default:
      return "mono";
  }
}

py::list tuples(const std::vector<LevelChange>& changes) {
  py::list out;
  for (const LevelChange& one : changes)
    out.append(py::make_tuple(text_of(one.kind), one.at, one.decided, one.since, one.samples));
  return out;
}

py::list tuples(const std::vector<ChannelChange>& changes) {
  py::list out;
  for (const ChannelChange& one : changes)
    out.append(py::make_tuple(text_of(one.state), one.at, one.decided));
  return out;
}

std::shared_ptr<LevelMeter> make_level_meter(std::int64_t rate, std::int64_t cell, double power,
                                             std::int64_t lag, std::int64_t quiet,
                                             std::int64_t loud, std::int64_t clipping_interval,
                                             std::int64_t start) {
  return std::make_shared<LevelMeter>(
      LevelOptions{rate, cell, power, lag, quiet, loud, clipping_interval}, start);
}

/// Calls `action` without the GIL.
///
/// When Python ends, asking for the GIL ends the thread. That must not happen in a destructor, so
/// this does not use py::gil_scoped_release.
template <class Action>
auto without_gil(Action action) {
  PyThreadState* state = PyEval_SaveThread();
  auto result = action();  // must not throw
  PyEval_RestoreThread(state);
  return result;
}

py::tuple scan(LevelMeter& meter, const py::object& block) {
  const Samples samples(block);
  std::vector<LevelChange> changes;
  const std::int64_t taken = meter.scan(samples.data, samples.count, changes);
  return py::make_tuple(taken, tuples(changes));
}

/// What `set_readings` has asked for: (index, end, mean square, peak, weighted).
py::list take_readings(const std::vector<LevelMeter*>& meters) {
  py::list out;
  for (std::size_t i = 0; i < meters.size(); ++i)
    for (const LevelReading& one : meters[i]->take_readings())
      out.append(py::make_tuple(i, one.end, one.mean_square, one.peak, one.weighted));
  return out;
}

/// The samples from `first` on that are left, at most `most`: (first one, 16-bit bytes).
py::tuple read_ring(const AudioRing& ring, std::int64_t first, std::int64_t most) {
  std::vector<std::int16_t> samples;
  {
    py::gil_scoped_release release;
    first = ring.read(first, most, samples);
  }
  return py::make_tuple(first, py::bytes(reinterpret_cast<const char*>(samples.data()),
                                         samples.size() * sizeof(std::int16_t)));
}

py::object silence_at(const LevelMeter& meter, std::int64_t end) {
  const auto found = meter.silence_at(end);
  if (!found) return py::none();
  return py::make_tuple(found->at, found->known, found->back);
}

/// (n, 2) float32 samples; empty for None.
py::array_t<float> both_sides(const py::object& sides, std::optional<std::int64_t> count) {
  py::array_t<float> array = floats("sides", sides, 2);
  if (array.shape(1) != 2 || (count && array.shape(0) != *count))
    throw std::invalid_argument("sides: expected shape (n, 2) for n samples, got " +
                                shape_of(array));
  return array;
}

std::shared_ptr<ChannelMeter> make_channel_meter(std::int64_t cell, double power, double mono_ratio,
                                                 std::int64_t fault, std::int64_t recovery,
                                                 std::int64_t start) {
  return std::make_shared<ChannelMeter>(ChannelOptions{cell, power, mono_ratio, fault, recovery},
                                        start);
}

py::list push_sides(ChannelMeter& meter, std::int64_t start, const py::object& sides) {
  std::vector<ChannelChange> changes;
  if (sides.is_none()) {
    meter.push_mono(start, changes);
  } else {
    const py::array_t<float> both = both_sides(sides, std::nullopt);
    meter.push(start, both.data(), both.shape(0), changes);
  }
  return tuples(changes);
}

py::array_t<float> array_of(const std::vector<float>& values) {
  return py::array_t<float>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::array_t<float> resample(Resampler& resampler, const py::object& block) {
  const Samples samples(block);
  std::vector<float> out;
  {
    py::gil_scoped_release release;
    resampler.push(samples.data, samples.count, out);
  }
  return array_of(out);
}

void append_block(StreamAudio& audio, std::int64_t start, const py::object& block,
                  const py::object& sides) {
  const Samples samples(block);
  const float* both =
      sides.is_none() ? nullptr : both_sides(sides, samples.count).data();  // `sides` keeps it
  audio.buffer()->append(start, samples.data, both, samples.count);
}

std::shared_ptr<PcmPort> open_port(int descriptor, const std::string& format, std::int64_t rate,
                                   std::int32_t channels, bool sides, bool mixed, float seam,
                                   double seconds) {
  PcmOptions options;
  options.format =
      named<PcmFormat>("format", format, {{"s16le", PcmFormat::kS16}, {"f32le", PcmFormat::kF32}});
  if (rate < 1 || channels < 1)
    throw std::invalid_argument("pcm: expected a rate and channels of at least 1, got " +
                                std::to_string(rate) + " and " + std::to_string(channels));
  options.rate = rate;
  options.channels = channels;
  options.sides = sides && channels == (mixed ? 3 : 2);
  options.mixed = mixed;
  options.seam = seam;
  options.seconds = seconds;
  static PcmReader* reader = nullptr;
  static pid_t process = 0;
  if (process != getpid()) {  // a fork has no threads of its parent
    reader = new PcmReader;
    process = getpid();
  }
  return reader->open(descriptor, options);
}

/// The oldest samples that wait, at most `most`: (start, samples, sides or None); None for none.
py::object take(PcmPort& port, std::int64_t most) {
  std::vector<float> samples, sides;
  const auto front = port.buffer()->peek(most, samples, sides);
  if (!front.exists) return py::none();
  port.buffer()->pop(front.count);
  py::object both = py::none();
  if (front.has_sides) {
    py::array_t<float> pairs({front.count, std::int64_t{2}});
    std::copy(sides.begin(), sides.end(), pairs.mutable_data());
    both = pairs;
  }
  return py::make_tuple(front.start, array_of(samples), both);
}

/// What Python learns of the progress of many streams: samples and frames, streams to which
/// something happened, and streams that may go on.
py::tuple progress_of(const std::vector<StreamAudio*>& streams,
                      const std::vector<Progress>& progress) {
  double seconds = 0.0;
  std::int64_t frames = 0;
  py::list found, more;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    const Progress& one = progress[i];
    seconds += static_cast<double>(one.samples) / static_cast<double>(streams[i]->rate());
    frames += one.frames;
    if (!one.due.empty() || !one.levels.empty() || !one.channels.empty() || one.gap)
      found.append(py::make_tuple(i, one.due, tuples(one.levels), tuples(one.channels), one.gap));
    if (one.more) more.append(i);
  }
  return py::make_tuple(seconds, frames, found, more);
}

template <class Step>
py::tuple step_all(const std::vector<StreamAudio*>& streams, Step step) {
  if (std::set(streams.begin(), streams.end()).size() != streams.size())
    throw std::invalid_argument("streams: expected each one once, got one of them twice");
  std::vector<Progress> progress(streams.size());
  {
    py::gil_scoped_release release;
    Batch batch;
    for (std::size_t i = 0; i < streams.size(); ++i) progress[i] = (streams[i]->*step)(batch);
  }
  return progress_of(streams, progress);
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

void append_each(const std::vector<FrameRing*>& rings, const py::object& frames) {
  const py::array_t<float> rows = floats("frames", frames, 3);
  require_equal("rows of frames", static_cast<std::size_t>(rows.shape(0)), rings.size());
  for (const FrameRing* ring : rings)
    if (ring->width() != rows.shape(2))
      throw std::invalid_argument("frames: expected rows of width " +
                                  std::to_string(ring->width()) + ", got shape " + shape_of(rows));
  const float* row = rows.data();
  for (FrameRing* ring : rings) {
    ring->append(row, rows.shape(1));
    row += rows.shape(1) * rows.shape(2);
  }
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() =
      "The audio of many streams: level, sample rate, log-mel frames and the rings that hold them.";

  py::class_<FrameRing, std::shared_ptr<FrameRing>>(m, "FrameRing")
      .def(py::init<std::int64_t, std::int64_t, std::int64_t>(), py::arg("capacity"),
           py::arg("width"), py::arg("start") = 0)
      .def_property_readonly("capacity", &FrameRing::capacity)
      .def_property_readonly("width", &FrameRing::width)
      .def_property_readonly("begin", &FrameRing::begin)
      .def_property_readonly("end", &FrameRing::end)
      .def("push", &append, py::arg("frames"))
      .def("copy", &copy, py::arg("first"), py::arg("count"))
      .def("clear", &FrameRing::clear, py::arg("start") = 0);

  py::class_<Extractor, std::shared_ptr<Extractor>>(m, "Extractor")
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

  py::class_<LevelMeter, std::shared_ptr<LevelMeter>>(m, "LevelMeter")
      .def(py::init(&make_level_meter), py::kw_only(), py::arg("rate"), py::arg("cell"),
           py::arg("power"), py::arg("lag"), py::arg("quiet"), py::arg("loud"),
           py::arg("clipping_interval"), py::arg("start"))
      .def("restart", &LevelMeter::restart, py::arg("start"))
      .def("scan", &scan, py::arg("samples"))
      .def("silence_at", &silence_at, py::arg("end"))
      .def("set_readings", &LevelMeter::set_readings, py::arg("cells"), py::arg("weighted"))
      .def("report_silence",
           [](LevelMeter& meter) {
             std::vector<LevelChange> changes;
             meter.report_silence(changes);
             return tuples(changes);
           })
      .def(
          "close",
          [](LevelMeter& meter, std::int64_t at) {
            std::vector<LevelChange> changes;
            meter.close(at, changes);
            return tuples(changes);
          },
          py::arg("at"));

  py::class_<ChannelMeter, std::shared_ptr<ChannelMeter>>(m, "ChannelMeter")
      .def(py::init(&make_channel_meter), py::kw_only(), py::arg("cell"), py::arg("power"),
           py::arg("mono_ratio"), py::arg("fault"), py::arg("recovery"), py::arg("start"))
      .def("push", &push_sides, py::arg("start"), py::arg("sides"));

  py::class_<Resampler>(m, "Resampler")
      .def(py::init<std::int64_t, std::int64_t>(), py::arg("from_rate"), py::arg("to_rate"))
      .def("push", &resample, py::arg("samples"))
      .def("close",
           [](Resampler& resampler) {
             std::vector<float> out;
             resampler.close(out);
             return array_of(out);
           })
      .def("reset", &Resampler::reset);

  py::class_<AudioRing, std::shared_ptr<AudioRing>>(m, "AudioRing")
      .def(py::init<std::int64_t, std::int64_t, std::int64_t>(), py::arg("rate"),
           py::arg("capacity"), py::arg("start") = 0)
      .def_property_readonly("rate", &AudioRing::rate)
      .def_property_readonly("capacity", &AudioRing::capacity)
      .def_property_readonly("begin", &AudioRing::begin)
      .def_property_readonly("end", &AudioRing::end)
      .def("read", &read_ring, py::arg("first"), py::arg("most"));

  py::class_<StreamAudio>(m, "StreamAudio")
      .def(py::init<std::int64_t, std::int64_t, std::shared_ptr<LevelMeter>,
                    std::shared_ptr<ChannelMeter>>(),
           py::arg("rate"), py::arg("start"), py::arg("level").none(false), py::arg("channels"))
      .def_property_readonly("end", &StreamAudio::end)
      .def_property_readonly("nonfinite", &StreamAudio::nonfinite)
      .def_property_readonly("allowed", &StreamAudio::allowed)
      .def("append", &append_block, py::arg("start"), py::arg("samples"), py::arg("sides"))
      .def("add", &StreamAudio::add, py::arg("extractor").none(false), py::arg("ring").none(false),
           py::arg("piece"))
      .def("remove", &StreamAudio::remove, py::arg("number"))
      .def("keep", &StreamAudio::keep, py::arg("ring").none(false))
      .def("set_due", &StreamAudio::set_due, py::arg("number"), py::arg("n_frames"))
      .def("restart", &StreamAudio::restart, py::arg("start"))
      .def(
          "read_from",
          [](StreamAudio& audio, const PcmPort& port) { audio.set_buffer(port.buffer()); },
          py::arg("port"));

  py::class_<ArrivalSignal, std::shared_ptr<ArrivalSignal>>(m, "ArrivalSignal")
      .def(py::init<>())
      .def("notify", &ArrivalSignal::notify)
      .def(
          "wait",
          [](ArrivalSignal& signal, double seconds) {
            return without_gil([&] { return signal.wait(seconds); });
          },
          py::arg("seconds"))
      .def_property_readonly("dropped",
                             [](const ArrivalSignal& signal) { return signal.dropped.load(); })
      .def_property_readonly("gathered",
                             [](const ArrivalSignal& signal) { return signal.gathered.load(); });

  py::class_<Arrivals>(m, "Arrivals")
      .def_readonly("end", &Arrivals::end)
      .def_readonly("samples", &Arrivals::samples)
      .def_readonly("first", &Arrivals::first)
      .def_readonly("first_samples", &Arrivals::first_samples)
      .def_readonly("last", &Arrivals::last)
      .def_readonly("pause", &Arrivals::pause)
      .def_readonly("least_lag", &Arrivals::least_lag)
      .def_readonly("ended", &Arrivals::ended)
      .def_readonly("closed", &Arrivals::closed)
      .def_readonly("error", &Arrivals::error);

  py::class_<PcmPort, std::shared_ptr<PcmPort>>(m, "PcmPort")
      .def(
          "wait",
          [](PcmPort& port, double seconds) {
            return without_gil([&] { return port.wait(seconds); });
          },
          py::arg("seconds"))
      .def("wake", &PcmPort::wake)
      .def("place", &PcmPort::place, py::arg("start"), py::arg("signal").none(false),
           py::call_guard<py::gil_scoped_release>())
      .def("set_pace", &PcmPort::set_pace, py::arg("begun"), py::arg("connected"))
      .def("skip", &PcmPort::skip, py::arg("count"))
      .def("set_sides", &PcmPort::set_sides, py::arg("wanted"))
      .def("take", &take, py::arg("most"))
      .def("close", &PcmPort::close, py::call_guard<py::gil_scoped_release>());

  // The reader's thread lives as long as the process: nothing joins it while Python ends.
  m.def("open_port", &open_port, py::arg("descriptor"), py::kw_only(), py::arg("format"),
        py::arg("rate"), py::arg("channels"), py::arg("sides"), py::arg("mixed"), py::arg("seam"),
        py::arg("seconds"));

  m.def(
      "allow",
      [](const std::vector<StreamAudio*>& streams, double seconds) {
        std::vector<std::size_t> found;
        bool rest = false;
        for (std::size_t i = 0; i < streams.size(); ++i) {
          if (!streams[i]->allow(seconds)) continue;
          found.push_back(i);
          rest = rest || streams[i]->has_rest();
        }
        return std::make_pair(found, rest);
      },
      py::arg("streams"), py::arg("seconds"));
  m.def(
      "advance",
      [](const std::vector<StreamAudio*>& streams) {
        return step_all(streams, &StreamAudio::advance);
      },
      py::arg("streams"));
  m.def(
      "flush",
      [](const std::vector<StreamAudio*>& streams) {
        return step_all(streams, &StreamAudio::flush);
      },
      py::arg("streams"));
  m.def("take_readings", &take_readings, py::arg("meters"));
  m.def("push_many", &push_many, py::arg("extractors"), py::arg("blocks"), py::arg("rings"));
  m.def("gather", &gather, py::arg("rings"), py::arg("firsts"), py::arg("counts"), py::arg("out"));
  m.def("append_each", &append_each, py::arg("rings"), py::arg("frames"));
  m.def("instruction_sets", [] {
    const auto sets = instruction_sets();
    return std::vector<std::string>(sets.begin(), sets.end());
  });
  m.def("isa", [] { return std::string(kernel_for("").isa); });
}

}  // namespace streamtag
