// The reader: bytes in pieces of any size, gaps, pauses, and ports that are closed while they read.

#include "pcm_reader.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"

namespace streamtag {
namespace {

constexpr float kSeam = 1e30f;

struct Run {
  std::int64_t start;
  std::vector<float> samples, sides;
  bool operator==(const Run&) const = default;
};

/// Takes what waits, in pieces, and joins what belongs together.
void take(SampleBuffer& buffer, std::int64_t most, std::vector<Run>& runs) {
  for (;;) {
    Run one;
    const auto front = buffer.peek(most, one.samples, one.sides);
    if (!front.exists) return;
    buffer.pop(front.count);
    if (!runs.empty() && runs.back().sides.empty() == one.sides.empty() &&
        runs.back().start + static_cast<std::int64_t>(runs.back().samples.size()) == front.start) {
      Run& last = runs.back();
      last.samples.insert(last.samples.end(), one.samples.begin(), one.samples.end());
      last.sides.insert(last.sides.end(), one.sides.begin(), one.sides.end());
    } else {
      one.start = front.start;
      runs.push_back(std::move(one));
    }
  }
}

/// Frames of floats with seams, and what must come of them.
std::vector<float> frames_with_seams(Random& random, const PcmOptions& options, std::int64_t count,
                                     std::vector<Run>& expected) {
  std::vector<float> frames;
  std::int64_t position = 0;
  bool cut = true;
  for (std::int64_t i = 0; i < count; ++i) {
    const bool seam = options.seam != 0.0f && (i == 0 || random.next(200) == 0);
    float sum = 0.0f;
    for (std::int32_t c = 0; c < options.channels; ++c) {
      frames.push_back(seam ? kSeam : random.sample());
      sum += frames.back();
    }
    if (seam) {
      position += position > 0 ? 1 : 0;
      cut = true;
      continue;
    }
    if (cut) expected.push_back({position, {}, {}});
    cut = false;
    Run& run = expected.back();
    const bool mean = !options.mixed && options.channels > 1;
    run.samples.push_back(mean ? sum / static_cast<float>(options.channels) : frames.back());
    if (options.sides) {
      const std::size_t first = frames.size() - static_cast<std::size_t>(options.channels);
      run.sides.insert(run.sides.end(), {frames[first], frames[first + 1]});
    }
    ++position;
  }
  return frames;
}

void write_in_pieces(int socket, const char* bytes, std::size_t count, Random random) {
  while (count > 0) {
    const auto piece = static_cast<std::size_t>(1 + random.next(random.next(2) * 5000 + 7));
    const ssize_t written = ::write(socket, bytes, std::min(count, piece));
    if (written <= 0) return;  // the port was closed
    bytes += written;
    count -= static_cast<std::size_t>(written);
  }
}

/// A connected pair of sockets, closed at the end.
struct Pair {
  Pair() { expect(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a pair of sockets"); }
  ~Pair() {
    ::close(ends[0]);
    if (ends[1] >= 0) ::close(ends[1]);
  }
  void hang_up() {
    ::close(ends[1]);
    ends[1] = -1;
  }
  int ends[2];
};

PcmOptions options_of(Random& random) {
  PcmOptions options;
  options.format = PcmFormat::kF32;
  options.rate = 8000;
  options.channels = static_cast<std::int32_t>(1 + random.next(3));
  options.mixed = options.channels == 3;
  options.sides = options.channels > 1 && random.next(2) == 0;
  options.seam = random.next(2) == 0 ? kSeam : 0.0f;
  options.seconds = 0.25;
  return options;
}

/// One source whose bytes come in pieces, taken by another thread before it is placed.
void read_all(PcmReader& reader, std::uint32_t seed) {
  Random random(seed);
  const PcmOptions options = options_of(random);
  std::vector<Run> expected, runs;
  const std::vector<float> frames =
      frames_with_seams(random, options, 1 + random.next(20000), expected);
  Pair pair;
  const auto port = reader.open(pair.ends[0], options);
  std::thread writer([&] {
    write_in_pieces(pair.ends[1], reinterpret_cast<const char*>(frames.data()),
                    frames.size() * sizeof(float), Random(seed + 1));
    pair.hang_up();
  });
  for (bool ended = false; !ended;) {
    ended = port->wait(0.01).ended;
    take(*port->buffer(), 1 + random.next(3000), runs);
  }
  writer.join();
  port->close();
  expect(runs == expected, "all samples of a source, seed " + std::to_string(seed));
}

/// Ports that are closed or forgotten while bytes come, are placed, skipped and taken.
void close_while_reading(PcmReader& reader, std::uint32_t seed) {
  Random random(seed);
  PcmOptions options = options_of(random);
  options.seconds = random.next(2) == 0 ? 0.25 : 0.01;
  Pair pair;
  auto port = reader.open(pair.ends[0], options);
  const auto signal = std::make_shared<ArrivalSignal>();
  std::vector<Run> expected;
  const std::vector<float> frames = frames_with_seams(random, options, 20000, expected);
  std::thread writer([&] {
    write_in_pieces(pair.ends[1], reinterpret_cast<const char*>(frames.data()),
                    frames.size() * sizeof(float), Random(seed + 1));
  });
  port->wait(5.0);
  port->place(1000, signal);
  port->set_pace(0.0, random.next(2) == 0 ? 1.0 : 1e9);
  std::thread consumer([&, buffer = port->buffer()] {
    std::vector<Run> runs;
    for (int i = 0; i < 20; ++i) {
      signal->wait(0.002);
      take(*buffer, 500, runs);
    }
    expect(runs.empty() || runs.front().start >= 1000, "positions after `place`");
  });
  port->skip(random.next(100));
  port->set_sides(random.next(2) == 0);
  port->wait(0.001 * static_cast<double>(random.next(20)));
  if (random.next(2) == 0) port->close();
  port.reset();
  ::shutdown(pair.ends[0], SHUT_RDWR);
  writer.join();
  consumer.join();
}

}  // namespace

void test_pcm_reader() {
  PcmReader reader;
  for (std::uint32_t seed = 0; seed < 30; ++seed) read_all(reader, seed);
  std::vector<std::thread> threads;
  for (std::uint32_t seed = 0; seed < 24; ++seed)  // with so many, rounds are gathered
    threads.emplace_back([&reader, seed] { close_while_reading(reader, seed); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace streamtag
