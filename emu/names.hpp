// Names of formats, modes and policies, and the sentences that say what is wrong with one. Host
// only.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "emu/core/formats.hpp"
#include "emu/core/operations.hpp"

namespace halfulp {

// fp_e{E}p{P}b{B}_{s|u}_{nan}_{inf}[_nosub][_nozero][_max{hex}]: round-trips, and never changes its
// meaning.
std::string canonical_name(Format f);

// The name in the table of named formats where there is one, else the canonical name.
std::string name_of(Format f);

// Canonical names, the table's names, common synonyms (half, bf16, torch.float16, …) and P3109
// names (binary8p3se). Throws std::invalid_argument with one sentence for an unknown, ambiguous or
// impossible format.
Format parse_format(std::string_view given);

// What makes the nine facts no format, as one sentence; nothing if they are one.
std::optional<std::string> problem_with(Format f);

// What makes the rounding impossible in the format (overflow to an infinity that it lacks, …), as
// one sentence.
std::optional<std::string> problem_with(const Rounding& rounding, Format f);

Mode parse_mode(std::string_view name);
Overflow parse_overflow(std::string_view name);
NanTo parse_nan_to(std::string_view name);
Operation parse_operation(std::string_view given);  // next-up, or next_up as in Python
std::string_view name_of(Operation op);
std::string_view name_of(Mode mode);
std::string_view name_of(Overflow policy);
std::string_view name_of(NanTo policy);
std::string_view name_of(NanEncoding encoding);
std::string_view name_of(InfEncoding encoding);
NanEncoding parse_nan_encoding(std::string_view name);
InfEncoding parse_inf_encoding(std::string_view name);

// Levenshtein's distance, for "did you mean".
int edit_distance(std::string_view a, std::string_view b);

}  // namespace halfulp
