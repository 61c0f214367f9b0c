// A Transformer's forward pass over whole numbers, for the few rows at a time that serving asks for: one call a step,
// where an eager framework makes hundreds. Plain C11 and POSIX threads; Python loads it with ctypes.
//
// The same code is compiled for several kinds of processor (path.h) and the best one the machine has is taken when it
// runs.

#include <math.h>
#include <string.h>

#include "core.h"
#include "team.h"

#define INLINE inline __attribute__((always_inline))

typedef int32_t i4 __attribute__((may_alias, aligned(1)));

// The first position that a row sees which sees all up to `until`.
static INLINE int first_seen(const Model *model, int until) {
    return model->window && until > model->window ? until - model->window : 0;
}

// Where keys and values begin of what is attended to together, one head of one group, `unit` counting heads first.
static INLINE size_t head_start(const Work *work, size_t place, int unit) {
    const Model *model = work->model;
    int group = unit / model->kv_heads, head = unit % model->kv_heads;
    size_t slot = work->step->slots[work->groups[2 * group]];
    return ((place * model->slots + slot) * model->kv_heads + head) * model->length;
}

// What a thread needs to attend through tiles: so many positions, and so many bytes.
static INLINE size_t attended_room(const Model *model) { return ((size_t)model->length + BLOCK - 1) / BLOCK * BLOCK; }

static INLINE size_t desk_size(const Model *model) {
    size_t size = model->head_dim, room = attended_room(model), bytes = sizeof(uint16_t), floats = sizeof(float);
    return (2 * room * size + ROWS * (size + room)) * bytes + ROWS * (room + ROWS + size) * floats;
}

// The vectors of the kind that is compiled, and of so many whole numbers.
#define V PATH(v)
#define I PATH(i)
#define U PATH(u)
#define H PATH(h)
#define LOAD(p) (*(const PATH(v_anywhere) *)(p))
#define STORE(p, x) (*(PATH(v_anywhere) *)(p) = (x))
// One or the other, number by number.
#define WHERE(is, yes, no) ((V)(((is) & (I)(yes)) | (~(is) & (I)(no))))
// Unrolled, so that what belongs to each turn stays in a register.
#define EACH(times) TEXT(GCC unroll times)
#define TEXT(x) _Pragma(#x)

#define CAT(a, b) a##_##b
#define NAME(a, b) CAT(a, b)

// ---------------------------------------------------------------------------------------------------------- plain

#define PATH(name) NAME(name, plain)
#define LANES 4
#define AT_ONCE 8  // rows that share a tile of weights: as many as there are registers for their sums
#define HALVES(p) ((V){from_half((p)[0]), from_half((p)[1]), from_half((p)[2]), from_half((p)[3])})
#define BYTES(p) ((V){(p)[0], (p)[1], (p)[2], (p)[3]})
#define TILE product_plain

// Float16 to float32 by arithmetic; no infinities, which no weights and no caches hold.
static INLINE float from_half(uint16_t half) {
    union {
        uint32_t bits;
        float number;
    } size = {(uint32_t)(half & 0x7fff) << 13};
    return (half & 0x8000 ? -0x1p112f : 0x1p112f) * size.number;
}

static INLINE void product_plain(const Matrix *m, int tile, const Entered *in, int row, const int count, const int bits,
                              const int lifted, float (*out)[ROWS]) {
    size_t place = (size_t)tile * m->blocks;
    memset(out, 0, count * sizeof *out);
    for (int b = 0; b < m->blocks; b++, place++) {
        const uint8_t *w = m->quants + place * 64 * bits;
        float scale[ROWS], minimum[ROWS] = {0};
        for (int i = 0; i < ROWS; i++) {
            scale[i] = from_half(m->scales[place * ROWS + i]);
            if (lifted) minimum[i] = from_half(m->minima[place * ROWS + i]);
        }
        for (int r = 0; r < count; r++) {
            const Block *x = in->blocks + (size_t)(row + r) * in->count + b;
            int32_t total[ROWS] = {0};
            for (int g = 0; g < GROUPS; g++)
                for (int i = 0; i < ROWS; i++)
                    for (int c = 0; c < 4; c++) {
                        int weight = bits == 8 ? w[g * 64 + 4 * i + c]
                                               : w[g % 4 * 64 + 4 * i + c] >> (g < 4 ? 0 : 4) & 15;
                        total[i] += weight * x->quants[4 * g + c];
                    }
            int32_t owed = lifted ? 0 : x->owed[bits == 8];
            for (int i = 0; i < ROWS; i++)
                out[r][i] += (float)(total[i] + owed) * (scale[i] * x->scale) + minimum[i] * x->lift;
        }
    }
}

#include "path.h"
#undef PATH
#undef LANES
#undef AT_ONCE
#undef HALVES
#undef BYTES
#undef TILE

#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#include <immintrin.h>

// ----------------------------------------------------------------------------------------------------------- avx2

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define AT_ONCE 8

static INLINE void product_avx2(const Matrix *m, int tile, const Entered *in, int row, const int count, const int bits,
                             const int lifted, float (*out)[ROWS]) {
    const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15), top = _mm256_set1_epi8((char)0x80);
    for (int half = 0; half < 2; half++) {
        size_t place = (size_t)tile * m->blocks;
        __m256 total[AT_ONCE];
        EACH(AT_ONCE) for (int r = 0; r < count; r++) total[r] = _mm256_setzero_ps();
        for (int b = 0; b < m->blocks; b++, place++) {
            const uint8_t *w = m->quants + place * 64 * bits + half * 32;
            __m256i weights[GROUPS], sizes[GROUPS];
            EACH(GROUPS) for (int g = 0; g < GROUPS; g++) {
                __m256i raw = _mm256_loadu_si256((const __m256i *)(w + (bits == 8 ? g : g % 4) * 64));
                // One row waits for memory alone, and processors look ahead no further than the end of a page.
                if (count == 1 && half == 0 && g < bits) __builtin_prefetch(w + g * 64 + PAGE);
                if (bits == 8) {  // back to signed: two products of unsigned would not fit
                    weights[g] = _mm256_xor_si256(raw, top);
                    sizes[g] = _mm256_abs_epi8(weights[g]);
                } else {
                    weights[g] = _mm256_and_si256(g < 4 ? raw : _mm256_srli_epi16(raw, 4), low);
                }
            }
            __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(m->scales + place * ROWS + half * 8)));
            __m256 minimum = _mm256_setzero_ps();
            if (lifted) minimum = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(m->minima + place * ROWS + half * 8)));
            EACH(AT_ONCE) for (int r = 0; r < count; r++) {
                const Block *x = in->blocks + (size_t)(row + r) * in->count + b;
                const i4 *fours = (const i4 *)x->quants;
                __m256i sum = _mm256_setzero_si256();
                EACH(GROUPS) for (int g = 0; g < GROUPS; g++) {
                    __m256i wide = _mm256_set1_epi32(fours[g]);
                    if (bits == 8) {
                        __m256i pairs = _mm256_maddubs_epi16(sizes[g], _mm256_sign_epi8(wide, weights[g]));
                        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
                    } else {  // eight pairs of products of 15 and 127 fit into 16 bits
                        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights[g], wide));
                    }
                }
                if (bits == 4) sum = _mm256_madd_epi16(sum, ones);
                // Weights of 4 bits without a minimum are stored that much too large, so that they are unsigned.
                if (bits == 4 && !lifted) sum = _mm256_add_epi32(sum, _mm256_set1_epi32(x->owed[0]));
                __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(x->scale));
                total[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), factor, total[r]);
                if (lifted) total[r] = _mm256_fmadd_ps(minimum, _mm256_set1_ps(x->lift), total[r]);
            }
        }
        EACH(AT_ONCE) for (int r = 0; r < count; r++) _mm256_storeu_ps(out[r] + half * 8, total[r]);
    }
}

#define PATH(name) NAME(name, avx2)
#define LANES 8
#define HALVES(p) ((V)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p))))
#define BYTES(p) ((V)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p)))))
#define TILE product_avx2
#include "path.h"
#undef PATH
#undef LANES
#undef AT_ONCE
#undef HALVES
#undef BYTES
#undef TILE

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

// --------------------------------------------------------------------------------------------------------- avx512

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,prefer-vector-width=512")
#endif

static INLINE __m512 halves_avx512(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

#define AT_ONCE 16

static INLINE void product_avx512(const Matrix *m, int tile, const Entered *in, int row, const int count,
                                  const int bits, const int lifted, float (*out)[ROWS]) {
    const __m512i low = _mm512_set1_epi8(15);
    size_t place = (size_t)tile * m->blocks;
    __m512 total[AT_ONCE];
    EACH(AT_ONCE) for (int r = 0; r < count; r++) total[r] = _mm512_setzero_ps();
    for (int b = 0; b < m->blocks; b++, place++) {
        const uint8_t *w = m->quants + place * 64 * bits;
        __m512i weights[GROUPS];
        EACH(GROUPS) for (int g = 0; g < GROUPS; g++) {
            __m512i raw = _mm512_loadu_si512(w + (bits == 8 ? g : g % 4) * 64);
            // Even many rows wait for memory, and processors look ahead no further than the end of a page.
            if (g < bits) __builtin_prefetch(w + g * 64 + PAGE);
            weights[g] = bits == 8 ? raw : _mm512_and_si512(g < 4 ? raw : _mm512_srli_epi16(raw, 4), low);
        }
        __m512 scale = halves_avx512(m->scales + place * ROWS), minimum = _mm512_setzero_ps();
        if (lifted) minimum = halves_avx512(m->minima + place * ROWS);
        EACH(AT_ONCE) for (int r = 0; r < count; r++) {
            const Block *x = in->blocks + (size_t)(row + r) * in->count + b;
            const i4 *fours = (const i4 *)x->quants;
            // Weights without a minimum are stored that much too large, so that they are unsigned.
            __m512i even = lifted ? _mm512_setzero_si512() : _mm512_set1_epi32(x->owed[bits == 8]);
            __m512i odd = _mm512_setzero_si512();
            EACH(GROUPS) for (int g = 0; g < GROUPS; g += 2) {  // two sums, so that one need not wait for the other
                even = _mm512_dpbusd_epi32(even, weights[g], _mm512_set1_epi32(fours[g]));
                odd = _mm512_dpbusd_epi32(odd, weights[g + 1], _mm512_set1_epi32(fours[g + 1]));
            }
            __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(x->scale));
            total[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even, odd)), factor, total[r]);
            if (lifted) total[r] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(x->lift), total[r]);
        }
    }
    EACH(AT_ONCE) for (int r = 0; r < count; r++) _mm512_storeu_ps(out[r], total[r]);
}

#define PATH(name) NAME(name, avx512)
#define LANES 16
#define HALVES(p) ((V)halves_avx512(p))
#define BYTES(p) ((V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p)))))
#define TILE product_avx512
#include "path.h"
#undef PATH
#undef LANES
#undef HALVES
#undef BYTES
#undef TILE

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

// ------------------------------------------------------------------------------------------------------------ amx

#if defined(X86) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define WITH_TILES 1
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")
#endif

// Compilers do not see that an instruction of tiles reads memory: what was written has to be there before.
#define WRITTEN() atomic_signal_fence(memory_order_seq_cst)

// Eight tiles of 16 rows of 64 bytes: sums (0 to 3), activations (4 and 5) and weights (6 and 7).
static const struct {
    uint8_t palette, start, unused[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} TILES_HELD = {.palette = 1, .bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

static INLINE void to_bfloat_amx(const float *x, uint16_t *out) {
    __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + ROWS), _mm512_loadu_ps(x));
    memcpy(out, &both, sizeof both);
}

// Two columns, or rows, of what is multiplied with, side by side as tiles take them.
static INLINE void put_pair_amx(uint16_t *out, __m512 even, __m512 odd) {
    const __m512i half = _mm512_set1_epi32(0x8000);  // to the nearest
    __m512i left = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
    __m512i right = _mm512_add_epi32(_mm512_castps_si512(odd), half);
    _mm512_storeu_si512(out, _mm512_mask_blend_epi16(0xaaaaaaaa, left, right));
}

// A tile of weights as bfloat16: of each block 16 pairs of columns, each of 16 rows.
static void unpack_amx(const Matrix *m, int tile, uint16_t *out) {
    const int bits = m->bits;
    const __m512i mask = _mm512_set1_epi32(bits == 8 ? 255 : 15);
    size_t place = (size_t)tile * m->blocks;
    for (int b = 0; b < m->blocks; b++, place++, out += CELLS) {
        const uint8_t *w = m->quants + place * 64 * bits;
        __m512 scale = halves_avx512(m->scales + place * ROWS);
        __m512 low = m->minima ? halves_avx512(m->minima + place * ROWS)
                               : _mm512_mul_ps(scale, _mm512_set1_ps((float)-(1 << (bits - 1))));
        EACH(GROUPS) for (int g = 0; g < GROUPS; g++) {
            __m512i raw = _mm512_loadu_si512(w + (bits == 8 ? g : g % 4) * 64);
            if (bits == 4 && g >= 4) raw = _mm512_srli_epi32(raw, 4);
            __m512 columns[4];
            EACH(4) for (int c = 0; c < 4; c++) {
                __m512i quants = _mm512_and_si512(_mm512_srli_epi32(raw, 8 * c), mask);
                columns[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(quants), scale, low);
            }
            put_pair_amx(out + 4 * g * ROWS, columns[0], columns[1]);
            put_pair_amx(out + (4 * g + 2) * ROWS, columns[2], columns[3]);
        }
    }
}

// 16 or 32 rows of activations, from a group of 16 on, by one or two tiles of weights; what is not asked for is zero.
static INLINE void sums_amx(const Entered *in, int group, int groups, const uint16_t *weights, int tiles,
                            float (*out)[2][ROWS][ROWS]) {
    size_t apart = (size_t)in->count * CELLS;
    const uint16_t *x = in->tiles + group * apart;
    WRITTEN();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int b = 0; b < in->count; b++, x += CELLS, weights += CELLS) {
        _tile_loadd(4, x, 64);
        _tile_loadd(6, weights, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (groups == 2) {
            _tile_loadd(5, x + apart, 64);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (tiles == 2) {
            _tile_loadd(7, weights + apart, 64);
            _tile_dpbf16ps(1, 4, 7);
            if (groups == 2) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, out[0][0], 64);
    _tile_stored(1, out[0][1], 64);
    _tile_stored(2, out[1][0], 64);
    _tile_stored(3, out[1][1], 64);
    WRITTEN();
}

// Scores of 16 queries at as many keys, each query's in a row of `room`.
static INLINE void scores_amx(const uint16_t *queries, const uint16_t *keys, int size, int count, float *out,
                              size_t room) {
    WRITTEN();
    for (int p = 0; p < count; p += 2 * ROWS) {
        const uint16_t *left = keys + (size_t)p * size, *right = left + (size_t)ROWS * size;
        int both = p + ROWS < count;
        _tile_zero(0);
        _tile_zero(1);
        for (int d = 0; d < size; d += BLOCK) {
            _tile_loadd(4, queries + d * ROWS, 64);
            _tile_loadd(6, left + d * ROWS, 64);
            _tile_dpbf16ps(0, 4, 6);
            if (!both) continue;
            _tile_loadd(7, right + d * ROWS, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        _tile_stored(0, out + p, room * sizeof(float));
        if (both) _tile_stored(1, out + p + ROWS, room * sizeof(float));
    }
    WRITTEN();
}

// What 16 queries find: the sum of as many values, each by its chance.
static INLINE void gathered_amx(const uint16_t *chances, const uint16_t *values, int size, int count, float *out) {
    WRITTEN();
    for (int d = 0; d < size; d += BLOCK) {
        _tile_zero(0);
        _tile_zero(1);
        for (int p = 0; p < count; p += BLOCK) {
            const uint16_t *left = values + (size_t)p * size + d / ROWS * CELLS;
            _tile_loadd(4, chances + p * ROWS, 64);
            _tile_loadd(6, left, 64);
            _tile_loadd(7, left + CELLS, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
        }
        _tile_stored(0, out + d, size * sizeof(float));
        _tile_stored(1, out + d + ROWS, size * sizeof(float));
    }
    WRITTEN();
}

#define PATH(name) NAME(name, amx)
#define LANES 16
#define HALVES(p) ((V)halves_avx512(p))
#define BYTES(p) ((V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p)))))
#define TILE product_avx512
#define TILES
#include "path.h"
#undef PATH
#undef LANES
#undef HALVES
#undef BYTES
#undef TILE
#undef TILES

// A thread's tiles hold nothing until they are given a shape; given back, they cost nobody a switch.
static void step_in_tiles(const Work *work, int thread) {
    _tile_loadconfig(&TILES_HELD);
    step_amx(work, thread);
    _tile_release();
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

enum { MAY_USE = 0x1023, TILE_DATA = 18 };  // Linux's ARCH_REQ_XCOMP_PERM, since 5.16, and the state it is asked for

// Whether the processor has tiles of bfloat16, and the system lets this process use them.
static int tiled(void) {
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512bf16") || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    return (d >> 22 & 1) && (d >> 24 & 1) && !syscall(SYS_arch_prctl, MAY_USE, TILE_DATA);
}
#endif

// ------------------------------------------------------------------------------------------------------- the doors

static Run run_of(int path) {
#ifdef WITH_TILES
    if (path == AMX) return step_in_tiles;
#endif
#ifdef X86
    if (path == AVX512) return step_avx512;
    if (path == AVX2) return step_avx2;
#endif
    (void)path;
    return step_plain;
}

// The best kind of code this processor runs.
int zhumo_path(void) {
#ifdef X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
#ifdef WITH_TILES
        if (tiled()) return AMX;
#endif
        return AVX512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return AVX2;
#endif
    return PLAIN;
}

// So that Python can see that both speak of the same structures.
size_t zhumo_size(int which) {
    return which == 0 ? sizeof(Matrix) : which == 1 ? sizeof(Layer) : which == 2 ? sizeof(Model) : sizeof(Step);
}

Team *zhumo_open(int threads) { return open_team(threads); }

void zhumo_close(Team *team) { close_team(team); }

static uint8_t *claim(uint8_t **place, size_t size) {
    uint8_t *here = *place;
    *place += (size + 63) / 64 * 64;
    return here;
}

static Entered claim_entered(uint8_t **place, size_t rows, int32_t columns, int path) {
    Entered found = {.count = (columns + BLOCK - 1) / BLOCK};
    found.blocks = (Block *)claim(place, rows * found.count * sizeof(Block));
    size_t cells = (rows + ROWS - 1) / ROWS * found.count * CELLS;
    if (path == AMX) found.tiles = (uint16_t *)claim(place, cells * sizeof(uint16_t));
    return found;
}

static size_t lay_out(Work *work, const Model *model, int rows, int threads, int path, uint8_t *scratch) {
    uint8_t *place = scratch;
    size_t asked = (size_t)model->heads * model->head_dim, known = (size_t)model->kv_heads * model->head_dim;
    work->narrow = claim_entered(&place, rows, model->width, path);
    work->attended = claim_entered(&place, rows, asked, path);
    work->wide = claim_entered(&place, rows, model->hidden, path);
    work->query = (float *)claim(&place, rows * asked * sizeof(float));
    work->key = (float *)claim(&place, rows * known * sizeof(float));
    work->value = (float *)claim(&place, rows * known * sizeof(float));
    work->scores = (float *)claim(&place, (size_t)threads * QUERIES * model->length * sizeof(float));
    work->groups = (int32_t *)claim(&place, 2 * (size_t)rows * sizeof(int32_t));
    int32_t most = work->narrow.count > work->attended.count ? work->narrow.count : work->attended.count;
    work->weighed = work->wide.count > most ? work->wide.count : most;
    if (path == AMX) {
        work->weights = (uint16_t *)claim(&place, threads * 4 * work->weighed * CELLS * sizeof(uint16_t));
        work->desks = claim(&place, threads * desk_size(model));
    }
    return (size_t)(place - scratch);
}

// Bytes of scratch a step of so many rows needs.
size_t zhumo_scratch(const Model *model, int rows, int threads, int path) {
    Work work;
    return lay_out(&work, model, rows, threads, path, NULL);
}

// Rows of a matrix as float32, its columns filled up.
void zhumo_take(const Matrix *m, const int32_t *rows, int count, float *out) {
    for (int i = 0; i < count; i++) {
        size_t place = (size_t)(rows[i] / ROWS) * m->blocks, row = rows[i] % ROWS;
        for (int b = 0; b < m->blocks; b++, place++, out += BLOCK) {
            const uint8_t *own = m->quants + place * 64 * m->bits + row * 4;
            float scale = from_half(m->scales[place * ROWS + row]);
            float low = m->minima ? from_half(m->minima[place * ROWS + row]) : scale * (float)-(1 << (m->bits - 1));
            for (int c = 0; c < BLOCK; c++) {
                int g = c / 4, quant = m->bits == 8 ? own[g * 64 + c % 4] : own[g % 4 * 64 + c % 4] >> (g < 4 ? 0 : 4) & 15;
                out[c] = scale * (float)quant + low;
            }
        }
    }
}

// Rows of one slot that follow each other read the same keys and values, so they are attended to together.
static void group(Work *work) {
    const Step *step = work->step;
    work->group_count = 0;
    for (int row = 0; row < step->count; row++) {
        int32_t *last = work->groups + 2 * (work->group_count - 1);
        int most = row < work->written ? QUERIES : TOGETHER;
        if (work->group_count && last[1] < most && step->slots[row] == step->slots[last[0]]) {
            last[1]++;
            continue;
        }
        last[2] = row;
        last[3] = 1;
        work->group_count++;
    }
}

// A step by so many threads of the team; returns and `had` as of `run_together`.
double zhumo_step(Team *team, const Model *model, const Step *step, int threads, int path, double *had) {
    Work work = {.model = model, .step = step, .team = team, .written = step->count};
#ifdef WITH_TILES
    if (path == AMX) work.written = step->written;
#endif
    lay_out(&work, model, step->count, team->threads, path, step->scratch);
    group(&work);
    return run_together(team, threads, run_of(path), &work, had);
}
