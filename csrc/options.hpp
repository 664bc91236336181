#pragma once

namespace streamtag {

enum class Kind { kLogMel, kRaw };
enum class Window { kHann, kHannSymmetric };
enum class Spectrum { kPower, kMagnitude };
enum class MelScale { kSlaney, kHtk, kEssentia, kKaldi };
enum class MelNorm { kNone, kSlaney };
enum class Order { kMelLog, kLogMel };
enum class Weighting { kNone, kA };
enum class Log { kNone, kLn, kDb, kLn1p };
enum class Framing { kCausal, kCentered };
enum class Padding { kReflect, kZero };
enum class Tail { kFloor, kCeil };

}  // namespace streamtag
