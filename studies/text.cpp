#include "studies/text.hpp"

#include <zlib.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "studies/data.hpp"
#include "studies/read_file.hpp"
#include "studies/sha256.hpp"

namespace halfulp::studies {
namespace {

namespace fs = std::filesystem;

// A zlib stream that ends itself.
class Inflater {
 public:
  Inflater() : ready_(inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK) {}  // 16: gzip, CRC checked
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  Inflater(Inflater&&) = delete;
  Inflater& operator=(Inflater&&) = delete;

  // Appends what `packed` holds, member after member; false if it is not whole.
  bool inflate_all(std::string packed, std::string& text) {
    if (!ready_ || packed.empty()) return false;
    stream_.next_in = reinterpret_cast<Bytef*>(packed.data());
    stream_.avail_in = static_cast<uInt>(packed.size());
    std::string chunk(1U << 16U, '\0');
    for (;;) {
      stream_.next_out = reinterpret_cast<Bytef*>(chunk.data());
      stream_.avail_out = static_cast<uInt>(chunk.size());
      const int status = inflate(&stream_, Z_NO_FLUSH);
      text.append(chunk, 0, chunk.size() - stream_.avail_out);
      if (status == Z_STREAM_END) {
        if (stream_.avail_in == 0) return true;
        if (inflateReset(&stream_) != Z_OK) return false;
      } else if (status != Z_OK) {
        return false;
      }
    }
  }

 private:
  z_stream stream_{};
  bool ready_;
};

std::string text_of(const fs::path& file) {
  std::string text;
  if (!Inflater().inflate_all(read_file<DataError>("the data file", file), text) || text.empty()) {
    throw DataError("the data file " + file.string() +
                    " is damaged: it is not a whole gzip file with text; restore it from the "
                    "repository");
  }
  return text;
}

}  // namespace

Windows Windows::part(int first, int count) const {
  const auto begin = static_cast<std::ptrdiff_t>(first) * context;
  const auto end = begin + static_cast<std::ptrdiff_t>(count) * context;
  return {context,
          {inputs.begin() + begin, inputs.begin() + end},
          {targets.begin() + begin, targets.begin() + end}};
}

TextExamples::TextExamples(const TextData& data, int context) : data_(&data), context_(context) {
  const int places = data.held_out_count() - context;
  const int wanted = data.held_out_windows;
  if (examples() < 1 || places < wanted) {
    throw SpecError(
        "model.context is " + std::to_string(context) + " and data.held_out is " +
        std::to_string(wanted) + ", but the text has only " + std::to_string(data.train_count) +
        " characters for training and " + std::to_string(data.held_out_count()) +
        " held out; use a smaller context, fewer windows or another data.held_out_fraction");
  }
  std::vector<int> starts;
  for (std::int64_t i = 0; i < wanted; ++i)
    starts.push_back(data.train_count + static_cast<int>(i * places / wanted));
  held_out = windows_at(starts);
}

Windows TextExamples::windows_at(std::span<const int> starts) const {
  Windows windows{context_, {}, {}};
  for (const int start : starts) {
    const auto first = data_->codes.begin() + start;
    windows.inputs.insert(windows.inputs.end(), first, first + context_);
    windows.targets.insert(windows.targets.end(), first + 1, first + context_ + 1);
  }
  return windows;
}

FrequencyBaselines frequency_baselines(const TextData& data, const Windows& windows) {
  const auto classes = static_cast<std::size_t>(data.classes());
  const auto train = static_cast<std::size_t>(data.train_count);
  std::vector<double> single(classes, 1);          // n(c) + 1
  std::vector<double> pair(classes * classes, 1);  // n(bc) + 1
  std::vector<double> first(classes, static_cast<double>(classes));
  for (std::size_t i = 0; i < train; ++i) {
    single[data.codes[i]] += 1;
    if (i + 1 == train) break;
    pair[data.codes[i] * classes + data.codes[i + 1]] += 1;
    first[data.codes[i]] += 1;
  }
  const double all = static_cast<double>(train) + static_cast<double>(classes);
  FrequencyBaselines sum;
  for (std::size_t i = 0; i < windows.inputs.size(); ++i) {
    const auto b = static_cast<std::size_t>(windows.inputs[i]);
    const auto c = static_cast<std::size_t>(windows.targets[i]);
    sum.unigram -= std::log(single[c] / all);
    sum.bigram -= std::log(pair[b * classes + c] / first[b]);
  }
  const auto count = static_cast<double>(windows.inputs.size());
  return {sum.unigram / count, sum.bigram / count};
}

TextData make_text(const std::string& text, double held_out_fraction, int held_out_windows) {
  const auto held_out =
      static_cast<std::size_t>(std::floor(static_cast<double>(text.size()) * held_out_fraction));
  if (held_out == 0 || held_out >= text.size()) {
    throw SpecError("data.held_out_fraction holds out " + std::to_string(held_out) + " of the " +
                    std::to_string(text.size()) +
                    " characters of the text; both parts must have some");
  }
  std::array<bool, 256> occurs{};
  for (const char c : text) occurs.at(static_cast<unsigned char>(c)) = true;
  TextData data;
  std::array<unsigned char, 256> code{};
  for (std::size_t byte = 0; byte < occurs.size(); ++byte) {
    if (!occurs.at(byte)) continue;
    code.at(byte) = static_cast<unsigned char>(data.vocabulary.size());
    data.vocabulary.push_back(static_cast<char>(byte));
  }
  data.codes.reserve(text.size());
  for (const char c : text) data.codes.push_back(code.at(static_cast<unsigned char>(c)));
  data.train_count = static_cast<int>(text.size() - held_out);
  data.held_out_windows = held_out_windows;
  data.sha256 = sha256(text);
  return data;
}

TextData load_text(const fs::path& file, double held_out_fraction, int held_out_windows) {
  return make_text(text_of(file), held_out_fraction, held_out_windows);
}

}  // namespace halfulp::studies
