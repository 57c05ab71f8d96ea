// Barriers and operations of a warp. Each hands its operands to the engine and waits there for the
// lanes its mask names.
#pragma once
#include <bit>
#include <type_traits>

#include "tensor/simt/engine.h"
#include "tensor/simt/shared_shadow.h"

namespace mullion::simt {

template <typename T>
struct ShuffleRequest {
  T value, result;
  int source;
};

// `source(lane)` within the segment of `width` lanes; outside of it a lane keeps its own value.
template <typename T>
T shuffle(const char* name, unsigned mask, T value, int source, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  ShuffleRequest<T> request{value, value, source};
  warp_operation(
      name, mask, &request,
      [](void* const* requests, unsigned lanes) {
        for (unsigned rest = lanes; rest; rest &= rest - 1) {
          auto& mine = *static_cast<ShuffleRequest<T>*>(requests[std::countr_zero(rest)]);
          if (!(lanes >> mine.source & 1))
            report(concat("a shuffle reads lane ", mine.source, ", which its mask does not name"));
          mine.result = static_cast<ShuffleRequest<T>*>(requests[mine.source])->value;
        }
      },
      site);
  return request.result;
}
inline int segment_end(int width) { return (lane_index() & ~(width - 1)) + width; }

template <typename T>
struct ReduceRequest {
  T value;
};
// Every lane gets operation(values of the lanes in the mask), combined from lane 0 upwards.
template <typename T, typename Operation>
T reduce(const char* name, unsigned mask, T value, Operation, Site site) {
  warp_operation(
      name, mask, &value,
      [](void* const* requests, unsigned lanes) {
        T total = *static_cast<T*>(requests[std::countr_zero(lanes)]);
        for (unsigned rest = lanes & (lanes - 1); rest; rest &= rest - 1)
          total = Operation{}(total, *static_cast<T*>(requests[std::countr_zero(rest)]));
        for (unsigned rest = lanes; rest; rest &= rest - 1)
          *static_cast<T*>(requests[std::countr_zero(rest)]) = total;
      },
      site);
  return value;
}

}  // namespace mullion::simt

inline void __syncthreads(mullion::simt::Site site = mullion::simt::Site::current()) {
  mullion::simt::barrier(false, site);
}
inline int __syncthreads_count(int predicate,
                               mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::barrier(predicate != 0, site);
}
inline int __syncthreads_or(int predicate,
                            mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::barrier(predicate != 0, site) > 0;
}
inline int __syncthreads_and(int predicate,
                             mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::barrier(predicate == 0, site) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu,
                       mullion::simt::Site site = mullion::simt::Site::current()) {
  mullion::simt::warp_operation(
      "__syncwarp", mask, nullptr,
      [](void* const*, unsigned lanes) { mullion::simt::shadow_syncwarp(threadIdx.x / 32, lanes); },
      site, true);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              mullion::simt::Site site = mullion::simt::Site::current()) {
  const int first = mullion::simt::segment_end(width) - width;
  return mullion::simt::shuffle("__shfl_sync", mask, value, first + (source & (width - 1)), site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 mullion::simt::Site site = mullion::simt::Site::current()) {
  const int lane = mullion::simt::lane_index(), source = lane - static_cast<int>(delta);
  const int first = mullion::simt::segment_end(width) - width;
  return mullion::simt::shuffle("__shfl_up_sync", mask, value, source < first ? lane : source,
                                site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   mullion::simt::Site site = mullion::simt::Site::current()) {
  const int lane = mullion::simt::lane_index(), source = lane + static_cast<int>(delta);
  return mullion::simt::shuffle("__shfl_down_sync", mask, value,
                                source >= mullion::simt::segment_end(width) ? lane : source, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  mullion::simt::Site site = mullion::simt::Site::current()) {
  const int lane = mullion::simt::lane_index(), source = lane ^ bits;
  return mullion::simt::shuffle("__shfl_xor_sync", mask, value,
                                source >= mullion::simt::segment_end(width) ? lane : source, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::reduce(
      "__ballot_sync", mask, (predicate ? 1u : 0u) << mullion::simt::lane_index(),
      [](unsigned a, unsigned b) { return a | b; }, site);
}
inline int __any_sync(unsigned mask, int predicate,
                      mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::reduce(
      "__any_sync", mask, predicate != 0 ? 1 : 0, [](int a, int b) { return a | b; }, site);
}
inline int __all_sync(unsigned mask, int predicate,
                      mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::reduce(
      "__all_sync", mask, predicate != 0 ? 1 : 0, [](int a, int b) { return a & b; }, site);
}
template <typename T>
requires std::is_integral_v<T> T __reduce_add_sync(
    unsigned mask, T value, mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::reduce(
      "__reduce_add_sync", mask, value, [](T a, T b) { return static_cast<T>(a + b); }, site);
}
template <typename T>
requires std::is_integral_v<T> T __reduce_max_sync(
    unsigned mask, T value, mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::reduce(
      "__reduce_max_sync", mask, value, [](T a, T b) { return a < b ? b : a; }, site);
}
template <typename T>
requires std::is_integral_v<T> T __reduce_min_sync(
    unsigned mask, T value, mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::reduce(
      "__reduce_min_sync", mask, value, [](T a, T b) { return b < a ? b : a; }, site);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                 mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::reduce(
      "__reduce_or_sync", mask, value, [](unsigned a, unsigned b) { return a | b; }, site);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value,
                                  mullion::simt::Site site = mullion::simt::Site::current()) {
  return mullion::simt::reduce(
      "__reduce_and_sync", mask, value, [](unsigned a, unsigned b) { return a & b; }, site);
}
