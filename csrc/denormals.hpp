#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace streamtag {

/// Sets this thread to flush denormals to zero and to round to nearest, for as long as it lives.
///
/// So results do not depend on the mode of the caller's thread, and no input can slow them down.
class FlushDenormals {
 public:
#if defined(__SSE__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(0x9fc0); }
  ~FlushDenormals() { _mm_setcsr(saved_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned int saved_;
#else
  FlushDenormals() {}
#endif
};

}  // namespace streamtag
