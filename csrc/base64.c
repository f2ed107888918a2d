/* See base64.h. The bulk goes through AVX2 or NEON where the processor has them, the rest through tables.
 *
 * The AVX2 way is the one published by Wojciech Muła and Daniel Lemire, "Faster Base64 Encoding and Decoding
 * using AVX2 Instructions", ACM Transactions on the Web 12(3), 2018; https://arxiv.org/abs/1704.00605
 */
#include "base64.h"

#include <string.h>

/* ---- tables -------------------------------------------------------------------------------- */

static const char alphabet[64] = {'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M',
                                  'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z',
                                  'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm',
                                  'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z',
                                  '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '/'};

/* Two characters for every 12 bits: half the look-ups of a table of single ones, and still in L1. */
#define EIGHT(a, b, c, d, e, f, g, h, i)                                                                   \
    {a, b}, {a, c}, {a, d}, {a, e}, {a, f}, {a, g}, {a, h},                                                \
    {                                                                                                      \
        a, i                                                                                               \
    }
#define ROW(a)                                                                                             \
    EIGHT(a, 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H'), EIGHT(a, 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P'),    \
        EIGHT(a, 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X'),                                                  \
        EIGHT(a, 'Y', 'Z', 'a', 'b', 'c', 'd', 'e', 'f'),                                                  \
        EIGHT(a, 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n'),                                                  \
        EIGHT(a, 'o', 'p', 'q', 'r', 's', 't', 'u', 'v'),                                                  \
        EIGHT(a, 'w', 'x', 'y', 'z', '0', '1', '2', '3'), EIGHT(a, '4', '5', '6', '7', '8', '9', '+', '/')
#define FOUR(a, b, c, d) ROW(a), ROW(b), ROW(c), ROW(d)

static const char pairs[4096][2] = {
    FOUR('A', 'B', 'C', 'D'), FOUR('E', 'F', 'G', 'H'), FOUR('I', 'J', 'K', 'L'), FOUR('M', 'N', 'O', 'P'),
    FOUR('Q', 'R', 'S', 'T'), FOUR('U', 'V', 'W', 'X'), FOUR('Y', 'Z', 'a', 'b'), FOUR('c', 'd', 'e', 'f'),
    FOUR('g', 'h', 'i', 'j'), FOUR('k', 'l', 'm', 'n'), FOUR('o', 'p', 'q', 'r'), FOUR('s', 't', 'u', 'v'),
    FOUR('w', 'x', 'y', 'z'), FOUR('0', '1', '2', '3'), FOUR('4', '5', '6', '7'), FOUR('8', '9', '+', '/')};

/* A character's six bits with GOOD set; 0 for every character outside of the alphabet. */
#define GOOD 0x40
#define BITS 0x3f
#define G(value) (GOOD | (value))

static const uint8_t values[256] = {
    ['A'] = G(0),  ['B'] = G(1),  ['C'] = G(2),  ['D'] = G(3),  ['E'] = G(4),  ['F'] = G(5),  ['G'] = G(6),
    ['H'] = G(7),  ['I'] = G(8),  ['J'] = G(9),  ['K'] = G(10), ['L'] = G(11), ['M'] = G(12), ['N'] = G(13),
    ['O'] = G(14), ['P'] = G(15), ['Q'] = G(16), ['R'] = G(17), ['S'] = G(18), ['T'] = G(19), ['U'] = G(20),
    ['V'] = G(21), ['W'] = G(22), ['X'] = G(23), ['Y'] = G(24), ['Z'] = G(25), ['a'] = G(26), ['b'] = G(27),
    ['c'] = G(28), ['d'] = G(29), ['e'] = G(30), ['f'] = G(31), ['g'] = G(32), ['h'] = G(33), ['i'] = G(34),
    ['j'] = G(35), ['k'] = G(36), ['l'] = G(37), ['m'] = G(38), ['n'] = G(39), ['o'] = G(40), ['p'] = G(41),
    ['q'] = G(42), ['r'] = G(43), ['s'] = G(44), ['t'] = G(45), ['u'] = G(46), ['v'] = G(47), ['w'] = G(48),
    ['x'] = G(49), ['y'] = G(50), ['z'] = G(51), ['0'] = G(52), ['1'] = G(53), ['2'] = G(54), ['3'] = G(55),
    ['4'] = G(56), ['5'] = G(57), ['6'] = G(58), ['7'] = G(59), ['8'] = G(60), ['9'] = G(61), ['+'] = G(62),
    ['/'] = G(63)};

/* ---- portable ------------------------------------------------------------------------------ */

void axi_base64_encode_portable(char *text, const void *data, size_t length)
{
    const uint8_t *in = data;
    for (; length >= 3; length -= 3, in += 3, text += 4) {
        uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        memcpy(text, pairs[bits >> 12], 2);
        memcpy(text + 2, pairs[bits & 0xfff], 2);
    }
    if (length == 0) return;
    uint32_t bits = (uint32_t)in[0] << 16 | (length == 2 ? (uint32_t)in[1] << 8 : 0);
    memcpy(text, pairs[bits >> 12], 2);
    text[2] = length == 2 ? alphabet[bits >> 6 & BITS] : '=';
    text[3] = '=';
}

/* The length of `text` without its padding, which is there only where it completes four characters. */
static size_t unpadded(const char *text, size_t length)
{
    if (length == 0 || length % 4 != 0 || text[length - 1] != '=') return length;
    return text[length - 2] == '=' ? length - 2 : length - 1;
}

size_t axi_base64_decoded_length(const char *text, size_t length)
{
    length = unpadded(text, length);
    return length / 4 * 3 + length % 4 * 3 / 4;
}

/* The place of the first character outside of the alphabet; `length` when there is none. */
static size_t first_wrong(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length && values[(uint8_t)text[at]])
        at++;
    return at;
}

/* Decodes groups of four characters and stops at the first group that has a wrong one. */
static size_t decode_groups(uint8_t *out, const char *text, size_t length)
{
    size_t at = 0;
    for (; length - at >= 4; at += 4, out += 3) {
        uint32_t a = values[(uint8_t)text[at]], b = values[(uint8_t)text[at + 1]];
        uint32_t c = values[(uint8_t)text[at + 2]], d = values[(uint8_t)text[at + 3]];
        if (!(a & b & c & d & GOOD)) break;
        uint32_t bits = (a & BITS) << 18 | (b & BITS) << 12 | (c & BITS) << 6 | (d & BITS);
        out[0] = (uint8_t)(bits >> 16);
        out[1] = (uint8_t)(bits >> 8);
        out[2] = (uint8_t)bits;
    }
    return at;
}

/* Decodes what the vector instructions left over: `text` from `done` on, without padding. */
static bool decode_rest(uint8_t *data, size_t done, const char *text, size_t length, size_t *offset)
{
    uint8_t *out = data + done / 4 * 3;
    size_t groups = decode_groups(out, text + done, length - done);
    out += groups / 4 * 3;
    done += groups;
    size_t left = length - done;
    size_t good = first_wrong(text + done, left < 4 ? left : 4);
    if (good < left || left == 1) { /* one character alone is six bits, less than a byte */
        *offset = done + good;
        return false;
    }
    if (left == 0) return true;
    uint32_t bits = (uint32_t)(values[(uint8_t)text[done]] & BITS) << 10 |
                    (uint32_t)(values[(uint8_t)text[done + 1]] & BITS) << 4;
    if (left == 3) bits |= (uint32_t)(values[(uint8_t)text[done + 2]] & BITS) >> 2;
    out[0] = (uint8_t)(bits >> 8);
    if (left == 3) out[1] = (uint8_t)bits;
    return true;
}

bool axi_base64_decode_portable(void *data, size_t *data_length, const char *text, size_t length,
                                size_t *offset)
{
    size_t body = unpadded(text, length);
    if (!decode_rest(data, 0, text, body, offset)) return false;
    *data_length = axi_base64_decoded_length(text, length);
    return true;
}

/* ---- AVX2 ---------------------------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* Builds a register whose two halves are both these 16 bytes: shuffles work within a half. */
#define BOTH(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))

/* Takes 12 bytes per half to 16 values of six bits. With the bytes a b c of a group laid out as b a c b, the
 * four values are bit fields of two 16-bit words, and a multiplication moves each field to its byte:
 *   a>>2 and c&63 of the words (a b) and (b c), then the two that straddle a byte's edge. */
AVX2 static inline __m256i split(__m256i bytes)
{
    const __m256i layout = BOTH(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
    __m256i words = _mm256_shuffle_epi8(bytes, layout);
    __m256i high = _mm256_and_si256(words, _mm256_set1_epi32(0x0fc0fc00));
    __m256i low = _mm256_and_si256(words, _mm256_set1_epi32(0x003f03f0));
    high = _mm256_mulhi_epu16(high, _mm256_set1_epi32(1 << 26 | 1 << 6)); /* >> 6 and >> 10 */
    low = _mm256_mullo_epi16(low, _mm256_set1_epi32(1 << 24 | 1 << 4));   /* << 8 and << 4 */
    return _mm256_or_si256(high, low);
}

/* Adds to each six-bit value the distance to its character, looked up by the run that the value is in:
 * 0 the small letters, 1 to 10 the digits, 11 '+', 12 '/', 13 the capitals. */
AVX2 static inline __m256i to_characters(__m256i sixes)
{
    const char digit = '0' - 52;
    const __m256i distance = BOTH('a' - 26, digit, digit, digit, digit, digit, digit, digit, digit, digit,
                                  digit, '+' - 62, '/' - 63, 'A', 0, 0);
    __m256i run = _mm256_subs_epu8(sixes, _mm256_set1_epi8(51));
    __m256i capital = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), sixes);
    run = _mm256_or_si256(run, _mm256_and_si256(capital, _mm256_set1_epi8(13)));
    return _mm256_add_epi8(sixes, _mm256_shuffle_epi8(distance, run));
}

/* Encodes 24 bytes at a time and returns how many bytes that were; each step reads 28. */
AVX2 static size_t encode_avx2(char *text, const uint8_t *data, size_t length)
{
    size_t at = 0;
    for (; length - at >= 28; at += 24, text += 32) {
        __m128i first = _mm_loadu_si128((const __m128i *)(const void *)(data + at));
        __m128i second = _mm_loadu_si128((const __m128i *)(const void *)(data + at + 12));
        __m256i bytes = _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
        _mm256_storeu_si256((__m256i *)(void *)text, to_characters(split(bytes)));
    }
    return at;
}

/* Characters to six-bit values. `*wrong` is not all zero when one is outside of the alphabet: the high half
 * of a character tells its run, and `odd` has a bit set for every run in which the low half is out of place.
 *   bit 0: high 2 (+ /)   bit 1: high 3 (digits)   bit 2: high 4, 6   bit 3: high 5, 7   bit 4: the others */
AVX2 static inline __m256i to_sixes(__m256i text, __m256i *wrong)
{
    const __m256i run = BOTH(16, 16, 1, 2, 4, 8, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16);
    const __m256i odd = BOTH(21, 17, 17, 17, 17, 17, 17, 17, 17, 17, 19, 26, 27, 27, 27, 26);
    const __m256i distance =
        BOTH(0, 63 - '/', 62 - '+', 52 - '0', -'A', -'A', 26 - 'a', 26 - 'a', 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    __m256i high = _mm256_and_si256(_mm256_srli_epi32(text, 4), nibble);
    __m256i low = _mm256_and_si256(text, nibble);
    *wrong = _mm256_and_si256(_mm256_shuffle_epi8(run, high), _mm256_shuffle_epi8(odd, low));
    /* '/' and '+' share a high half: -1 from the comparison moves '/' to an entry of its own */
    __m256i slash = _mm256_cmpeq_epi8(text, _mm256_set1_epi8('/'));
    return _mm256_add_epi8(text, _mm256_shuffle_epi8(distance, _mm256_add_epi8(high, slash)));
}

/* Four six-bit values to three bytes, and the 24 bytes of the register to its front. */
AVX2 static inline __m256i join(__m256i sixes)
{
    const __m256i order = BOTH(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
    __m256i twelves = _mm256_maddubs_epi16(sixes, _mm256_set1_epi16(1 << 8 | 64));
    __m256i groups = _mm256_madd_epi16(twelves, _mm256_set1_epi32(1 << 16 | 4096));
    return _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(groups, order),
                                       _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
}

/* Decodes 32 characters at a time, up to one that is wrong, and returns how many that were. Each step writes
 * 32 bytes of which 24 count, so the last characters are left to the caller. */
AVX2 static size_t decode_avx2(uint8_t *data, const char *text, size_t length)
{
    size_t at = 0;
    for (; length - at >= 44; at += 32, data += 24) {
        __m256i wrong, characters = _mm256_loadu_si256((const __m256i *)(const void *)(text + at));
        __m256i bytes = join(to_sixes(characters, &wrong));
        if (!_mm256_testz_si256(wrong, wrong)) break;
        _mm256_storeu_si256((__m256i *)(void *)data, bytes);
    }
    return at;
}

static size_t encode_fast(char *text, const uint8_t *data, size_t length)
{
    return __builtin_cpu_supports("avx2") ? encode_avx2(text, data, length) : 0;
}

static size_t decode_fast(uint8_t *data, const char *text, size_t length)
{
    return __builtin_cpu_supports("avx2") ? decode_avx2(data, text, length) : 0;
}

/* ---- NEON ---------------------------------------------------------------------------------- */

#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>

static inline uint8x16x4_t load_table(const void *from)
{
    const uint8_t *p = from;
    return (uint8x16x4_t){{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}};
}

/* Encodes 48 bytes at a time and returns how many bytes that were. Loading and storing take the groups of
 * three and four apart and together, and a table of 64 bytes is one instruction. */
static size_t encode_fast(char *text, const uint8_t *data, size_t length)
{
    const uint8x16x4_t letters = load_table(alphabet);
    const uint8x16_t bits = vdupq_n_u8(BITS);
    size_t at = 0;
    for (; length - at >= 48; at += 48, text += 64) {
        uint8x16x3_t in = vld3q_u8(data + at);
        uint8x16_t second = vorrq_u8(vshlq_n_u8(in.val[0], 4), vshrq_n_u8(in.val[1], 4));
        uint8x16_t third = vorrq_u8(vshlq_n_u8(in.val[1], 2), vshrq_n_u8(in.val[2], 6));
        uint8x16x4_t out = {
            {vqtbl4q_u8(letters, vshrq_n_u8(in.val[0], 2)), vqtbl4q_u8(letters, vandq_u8(second, bits)),
             vqtbl4q_u8(letters, vandq_u8(third, bits)), vqtbl4q_u8(letters, vandq_u8(in.val[2], bits))}};
        vst4q_u8((uint8_t *)text, out);
    }
    return at;
}

/* values[] for 16 characters: what is beyond a table's 64 entries looks up 0. */
static inline uint8x16_t look_up(uint8x16x4_t below_64, uint8x16x4_t below_128, uint8x16_t text)
{
    return vorrq_u8(vqtbl4q_u8(below_64, text), vqtbl4q_u8(below_128, vsubq_u8(text, vdupq_n_u8(64))));
}

/* Decodes 64 characters at a time, up to one that is wrong, and returns how many that were. */
static size_t decode_fast(uint8_t *data, const char *text, size_t length)
{
    const uint8x16x4_t below_64 = load_table(values), below_128 = load_table(values + 64);
    const uint8x16_t bits = vdupq_n_u8(BITS);
    size_t at = 0;
    for (; length - at >= 64; at += 64, data += 48) {
        uint8x16x4_t in = vld4q_u8((const uint8_t *)text + at);
        uint8x16_t good = vdupq_n_u8(GOOD);
        for (int i = 0; i < 4; i++) {
            in.val[i] = look_up(below_64, below_128, in.val[i]);
            good = vandq_u8(good, in.val[i]);
            in.val[i] = vandq_u8(in.val[i], bits);
        }
        if (vminvq_u8(good) == 0) break;
        uint8x16x3_t out = {{vorrq_u8(vshlq_n_u8(in.val[0], 2), vshrq_n_u8(in.val[1], 4)),
                             vorrq_u8(vshlq_n_u8(in.val[1], 4), vshrq_n_u8(in.val[2], 2)),
                             vorrq_u8(vshlq_n_u8(in.val[2], 6), in.val[3])}};
        vst3q_u8(data, out);
    }
    return at;
}

/* ---- neither ------------------------------------------------------------------------------- */

#else

static size_t encode_fast(char *text, const uint8_t *data, size_t length)
{
    (void)text, (void)data, (void)length;
    return 0;
}

static size_t decode_fast(uint8_t *data, const char *text, size_t length)
{
    (void)data, (void)text, (void)length;
    return 0;
}

#endif

/* ---- whichever is faster ------------------------------------------------------------------- */

void axi_base64_encode(char *text, const void *data, size_t length)
{
    size_t done = encode_fast(text, data, length);
    axi_base64_encode_portable(text + done / 3 * 4, (const uint8_t *)data + done, length - done);
}

bool axi_base64_decode(void *data, size_t *data_length, const char *text, size_t length, size_t *offset)
{
    size_t body = unpadded(text, length);
    size_t done = decode_fast(data, text, body);
    if (!decode_rest(data, done, text, body, offset)) return false;
    *data_length = axi_base64_decoded_length(text, length);
    return true;
}
