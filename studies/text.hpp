// Text as training data: characters, their codes, and windows of them.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "studies/spec.hpp"

namespace halfulp::studies {

// The King James Bible (data/kjv), gzipped plain text.
inline constexpr const char* kjv_file = "kjv/kjv.txt.gz";

// Windows of `context` characters, one after the other; the target of each place is the character
// that follows it.
struct Windows {
  int context = 0;
  std::vector<int> inputs;  // codes
  std::vector<int> targets;

  int count() const { return static_cast<int>(inputs.size()) / context; }
  // `count` windows from number `first` on.
  Windows part(int first, int count) const;
};

// The first `train_count` characters are for training, the rest is held out.
struct TextData {
  std::string vocabulary;  // the distinct bytes of the whole text, ascending; a code is a place
  std::vector<unsigned char> codes;
  int train_count = 0;
  int held_out_windows = 0;  // how many windows of the rest are evaluated
  std::string sha256;        // of the text, not of its compressed form

  int classes() const { return static_cast<int>(vocabulary.size()); }
  int held_out_count() const { return static_cast<int>(codes.size()) - train_count; }
};

// A text as examples (data.hpp): example i is the window that starts at character i of the training
// part. The evaluation's windows start evenly spaced in what is held out: window i of n at
// floor(i·A/n), A the number of places where one fits. Throws SpecError where the text is too
// short.
class TextExamples {
 public:
  using Batch = Windows;

  TextExamples(const TextData& data, int context);

  int examples() const { return data_->train_count - context_; }
  Windows batch(std::span<const int> examples) const { return windows_at(examples); }

  Windows held_out;

 private:
  Windows windows_at(std::span<const int> starts) const;

  const TextData* data_;
  int context_;
};

inline TextExamples examples_for(const ModelSpec& spec, const TextData& data) {
  return {data, spec.context};
}

// What knows no more than frequencies: mean cross-entropies of the targets of `windows`, in nats,
// by add-one-smoothed counts of the training part.
//   unigram  P(c) = (n(c) + 1) / (N + V)        bigram  P(c | b) = (n(bc) + 1) / (n(b·) + V)
struct FrequencyBaselines {
  double unigram = 0;
  double bigram = 0;
};
FrequencyBaselines frequency_baselines(const TextData& data, const Windows& windows);

// `text` as data; the last floor(size·fraction) characters are held out. Throws SpecError where
// one of the two parts would be empty.
TextData make_text(const std::string& text, double held_out_fraction, int held_out_windows);

// Reads a gzip file as make_text wants it. Throws DataError where it is damaged.
TextData load_text(const std::filesystem::path& file, double held_out_fraction,
                   int held_out_windows);

}  // namespace halfulp::studies
