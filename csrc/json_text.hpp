// JSON text without Python: strings as UTF-8, numbers to the millionth.

#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace streamtag {

/// Grows by one value after the other; commas and brackets are the caller's.
class JsonText {
 public:
  void clear() { text_.clear(); }
  const std::string& text() const { return text_; }

  /// As it is.
  void raw(std::string_view some) { text_.append(some); }
  void raw(char one) { text_.push_back(one); }

  /// A string in quotes; `utf8` must be valid.
  void string(std::string_view utf8) {
    text_.push_back('"');
    std::size_t done = 0;
    for (std::size_t i = 0; i < utf8.size(); ++i) {
      const auto c = static_cast<unsigned char>(utf8[i]);
      if (c >= 0x20 && c != '"' && c != '\\') continue;
      text_.append(utf8, done, i - done);
      escape(c);
      done = i + 1;
    }
    text_.append(utf8, done, std::string_view::npos);
    text_.push_back('"');
  }

  void integer(std::int64_t value) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, value);
    text_.append(digits, end.ptr);
  }

  /// The nearest millionth (of two the even one), without zeros at the end but one; `null` for what
  /// is no number.
  void number(double value) {
    if (!std::isfinite(value)) return raw("null");
    if (std::signbit(value)) text_.push_back('-');
    const double size = std::fabs(value);
    const double millionths = size * 1e6;
    const double whole = std::floor(millionths);
    const double from_tie = std::fabs(millionths - whole - 0.5);
    // The product may be off by half a unit in its last place: near a tie that would decide.
    if (size >= 1e9 || from_tie <= millionths * 1.2e-16) return exact(size);
    const auto count = static_cast<std::uint64_t>(whole + (millionths - whole > 0.5 ? 1 : 0));
    integer(static_cast<std::int64_t>(count / 1'000'000));
    fraction(static_cast<std::uint32_t>(count % 1'000'000));
  }

  /// RFC 3339 to the microsecond in quotes, of nanoseconds since 1970; false, and nothing
  /// written, before.
  bool utc(std::int64_t ns) {
    constexpr std::int64_t kSecond = 1'000'000'000, kDay = 86'400;
    if (ns < 0) return false;  // 64 bits end in 2262
    const std::int64_t seconds = ns / kSecond;
    const std::int64_t day = seconds / kDay, in_day = seconds % kDay;
    text_.push_back('"');
    date(day);
    text_.push_back('T');
    padded(in_day / 3600, 2);
    text_.push_back(':');
    padded(in_day / 60 % 60, 2);
    text_.push_back(':');
    padded(in_day % 60, 2);
    text_.push_back('.');
    padded(ns % kSecond / 1000, 6);
    text_.append("Z\"");
    return true;
  }

 private:
  /// Days since 1970 as a date of the Gregorian calendar; years are counted from March, so that a
  /// leap day is the last one.
  void date(std::int64_t day) {
    constexpr std::int64_t kEra = 146'097,
                           kBefore1970 = 719'468;  // 400 years; days from 0000-03-01
    const std::int64_t since = day + kBefore1970, in_era = since % kEra;
    const std::int64_t year_of_era =
        (in_era - in_era / 1460 + in_era / 36'524 - in_era / 146'096) / 365;
    const std::int64_t in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const std::int64_t shifted = (5 * in_year + 2) / 153, month = shifted + (shifted < 10 ? 3 : -9);
    padded(since / kEra * 400 + year_of_era + (month <= 2 ? 1 : 0), 4);
    text_.push_back('-');
    padded(month, 2);
    text_.push_back('-');
    padded(in_year - (153 * shifted + 2) / 5 + 1, 2);
  }

  void padded(std::int64_t value, std::size_t digits) {
    text_.append(digits, '0');
    for (auto at = text_.end(); value > 0; value /= 10) *--at = static_cast<char>('0' + value % 10);
  }

  void escape(unsigned char c) {
    constexpr std::string_view kNamed = "\"\\\b\t\n\f\r", kNames = "\"\\btnfr";
    text_.push_back('\\');
    if (const auto found = kNamed.find(static_cast<char>(c)); found != std::string_view::npos)
      return text_.push_back(kNames[found]);
    constexpr std::string_view kHex = "0123456789abcdef";
    text_.append("u00");
    text_.push_back(kHex[c >> 4]);
    text_.push_back(kHex[c & 15]);
  }

  void fraction(std::uint32_t millionths) {
    char digits[7] = {'.', '0', '0', '0', '0', '0', '0'};
    for (int i = 6; i > 0; --i, millionths /= 10)
      digits[i] = static_cast<char>('0' + millionths % 10);
    std::size_t length = 7;
    while (length > 2 && digits[length - 1] == '0') --length;
    text_.append(digits, length);
  }

  void exact(double size) {
    char digits[std::numeric_limits<double>::max_exponent10 + 10];
    auto* end =
        std::to_chars(digits, digits + sizeof digits, size, std::chars_format::fixed, 6).ptr;
    while (end[-1] == '0' && end[-2] != '.') --end;
    text_.append(digits, end);
  }

  std::string text_;
};

}  // namespace streamtag
