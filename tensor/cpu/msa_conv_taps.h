// The three products over taps that MSA-Conv is made of, on the flat lines of one head's band (see
// msa_conv_plan.h). Each has a planar form for any shape and type, and a register-blocked one for
// f32, square kernels of 3, 5 and 7, and head widths that fill vectors (msa_conv_blocked.cc).
#pragma once
#include "tensor/cpu/msa_conv_plan.h"

namespace mullion::cpu {

// The chunk of positions in which the products of a geometry may read and write lines.
template <typename T>
int64_t line_chunk(const MsaConvGeometry& g);

// out_t[p] = sum over c of q_c[p] k_c[p + offset_t]. q: (head_dim, query_plane), k: (head_dim,
// key_plane), out: (taps, query_plane); its guards are undefined afterwards.
template <typename T>
void tap_products(const MsaPlan& plan, int64_t rows, const T* q, const T* k, T* out);

// map(r) = factor(r) sum over t of weights_t(r) keys(r + delta_t), for the band's queries. weights:
// (taps, query_plane), keys: (key_plane, head_dim), factor: (query_plane) or null for 1. `map`
// points to the head's first channel of the first pixel of the map; its pixels are written.
template <typename T>
void gather_at_queries(const MsaPlan& plan, int64_t first_row, int64_t rows, const T* weights,
                       const T* keys, const T* factor, T* map, int64_t stride);

// map(r) += sum over t of weights_t(r - delta_t) queries(r - delta_t), for the keys that the band
// sees: the transposed product. Where no band before saw a key, it is stored (see unpack_key_row).
// queries: (query_plane, head_dim), zero outside the band's pixels, where the weights must be
// finite.
template <typename T>
void gather_at_keys(const MsaPlan& plan, const ChannelRuns& runs, int64_t first_row, int64_t rows,
                    const T* weights, const T* queries, T* map, int64_t stride);

// The register-blocked forms, and whether they serve a geometry.
bool has_blocked_taps(const MsaConvGeometry& g);
void blocked_tap_products(const MsaPlan& plan, int64_t rows, const float* q, const float* k,
                          float* out);
void blocked_gather_at_queries(const MsaPlan& plan, int64_t first_row, int64_t rows,
                               const float* weights, const float* keys, const float* factor,
                               float* map, int64_t stride);
void blocked_gather_at_keys(const MsaPlan& plan, const ChannelRuns& runs, int64_t first_row,
                            int64_t rows, const float* weights, const float* queries, float* map,
                            int64_t stride);

}  // namespace mullion::cpu
