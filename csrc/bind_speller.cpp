// Messages as JSON, straight from the fields of Python objects.

#include "bind_speller.hpp"

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "json_text.hpp"

namespace py = pybind11;

namespace streamtag {
namespace {

/// How an attribute becomes a value: as it is, or as a position in samples that becomes a time.
enum class Unit { kPlain, kSeconds, kUtc };

Unit unit_called(const std::string& name) {
  if (name.empty()) return Unit::kPlain;
  if (name == "seconds") return Unit::kSeconds;
  if (name == "utc") return Unit::kUtc;
  throw std::invalid_argument("unit: expected seconds, utc or nothing, got '" + name + "'");
}

/// A new reference to an attribute.
py::object attribute(const py::handle& object, const py::handle& name) {
  PyObject* found = PyObject_GetAttr(object.ptr(), name.ptr());
  if (found == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(found);
}

/// A whole number of 64 bits, where it is one.
std::optional<std::int64_t> whole(PyObject* value) {
  if (!PyLong_CheckExact(value)) return std::nullopt;
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (overflow != 0) return std::nullopt;
  return number;
}

/// Spells objects of one kind: always the same names, in the same order.
class Speller {
 public:
  /// Name, attribute, whether it is one of the line, unit.
  using Plan = std::tuple<std::string, std::string, bool, std::string>;

  Speller(std::string head, const std::vector<Plan>& plans) : head_(std::move(head)) {
    for (const auto& [name, from, of_line, unit] : plans) {
      JsonText text;
      text.raw(',');
      text.string(name);
      text.raw(':');
      fields_.push_back({interned(from.c_str()), text.text(), of_line, unit_called(unit)});
      needs_line_ = needs_line_ || of_line || fields_.back().unit != Unit::kPlain;
      needs_clock_ = needs_clock_ || fields_.back().unit != Unit::kPlain;
    }
  }

  /// The bytes, or None where a value is of a type that only Python can spell.
  py::object spell(const py::handle& object, const py::handle& line) {
    if (needs_line_ && line.is_none())
      throw py::type_error("line: expected what the messages have in common, got None");
    text_.clear();
    text_.raw(head_);
    if (needs_clock_ && !read_clock(line)) return py::none();
    for (const Field& field : fields_) {
      text_.raw(field.head);
      const py::object value = attribute(field.of_line ? line : object, field.attribute);
      if (!write(value.ptr(), field.unit)) return py::none();
    }
    text_.raw('}');
    return py::bytes(text_.text());
  }

 private:
  struct Field {
    py::str attribute;
    std::string head;
    bool of_line;
    Unit unit;
  };

  static constexpr std::int64_t kHighestRate = 1'000'000'000;

  static py::str interned(const char* name) {
    return py::reinterpret_steal<py::str>(PyUnicode_InternFromString(name));
  }

  bool read_clock(const py::handle& line) {
    const auto rate = whole(attribute(line, rate_name_).ptr());
    const auto epoch = whole(attribute(line, epoch_name_).ptr());
    if (!rate || !epoch || *rate <= 0 || *rate > kHighestRate) return false;
    rate_ = *rate;
    epoch_ns_ = *epoch;
    return true;
  }

  bool write(PyObject* value, Unit unit) {
    if (unit == Unit::kPlain) return write(value);
    const auto at = whole(value);
    if (!at || *at < 0) return false;
    if (unit == Unit::kUtc) {
      const auto ns = moment(*at);
      return ns && text_.utc(*ns);
    }
    text_.number(static_cast<double>(*at) / static_cast<double>(rate_));
    return true;
  }

  /// UTC of a position in nanoseconds since 1970, rounded down; none where 64 bits end.
  std::optional<std::int64_t> moment(std::int64_t at) const {
    constexpr std::int64_t kSecond = 1'000'000'000;
    std::int64_t ns = 0;
    if (__builtin_mul_overflow(at / rate_, kSecond, &ns) ||
        __builtin_add_overflow(ns, at % rate_ * kSecond / rate_, &ns) ||
        __builtin_add_overflow(ns, epoch_ns_, &ns))
      return std::nullopt;
    return ns;
  }

  bool write(PyObject* value) {
    if (PyUnicode_Check(value)) return write_string(value);
    if (PyFloat_Check(value)) return text_.number(PyFloat_AS_DOUBLE(value)), true;
    if (PyBool_Check(value)) return text_.raw(value == Py_True ? "true" : "false"), true;
    if (PyLong_CheckExact(value)) return write_integer(value);
    if (PyTuple_Check(value) || PyList_Check(value)) return write_list(value);
    return PyDict_Check(value) && write_table(value);
  }

  bool write_string(PyObject* value) {
    Py_ssize_t size = 0;
    const char* utf8 = PyUnicode_AsUTF8AndSize(value, &size);
    if (utf8 == nullptr) return PyErr_Clear(), false;  // half a surrogate pair
    text_.string({utf8, static_cast<std::size_t>(size)});
    return true;
  }

  bool write_integer(PyObject* value) {
    const auto number = whole(value);
    if (number) text_.integer(*number);
    return number.has_value();
  }

  bool write_list(PyObject* list) {
    text_.raw('[');
    const Py_ssize_t size = PySequence_Fast_GET_SIZE(list);
    for (Py_ssize_t i = 0; i < size; ++i) {
      if (i > 0) text_.raw(',');
      if (!write(PySequence_Fast_GET_ITEM(list, i))) return false;
    }
    text_.raw(']');
    return true;
  }

  bool write_table(PyObject* table) {
    PyObject *key = nullptr, *value = nullptr;
    char before = '{';
    for (Py_ssize_t at = 0; PyDict_Next(table, &at, &key, &value) != 0; before = ',') {
      if (!PyUnicode_Check(key)) return false;
      text_.raw(before);
      if (!write_string(key)) return false;
      text_.raw(':');
      if (!write(value)) return false;
    }
    if (before == '{') text_.raw(before);
    text_.raw('}');
    return true;
  }

  std::string head_;
  std::vector<Field> fields_;
  bool needs_line_ = false;
  bool needs_clock_ = false;
  const py::str rate_name_ = interned("rate");
  const py::str epoch_name_ = interned("epoch_ns");
  std::int64_t rate_ = 1;
  std::int64_t epoch_ns_ = 0;
  JsonText text_;
};

}  // namespace

void bind_speller(py::module_& m) {
  py::class_<Speller>(m, "Speller")
      .def(py::init<std::string, const std::vector<Speller::Plan>&>(), py::arg("head"),
           py::arg("fields"))
      .def("spell", &Speller::spell, py::arg("object"), py::arg("line") = py::none());
}

}  // namespace streamtag
