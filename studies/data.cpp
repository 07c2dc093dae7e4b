#include "studies/data.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <system_error>

#include "studies/digits.hpp"

namespace halfulp::studies {

namespace fs = std::filesystem;

Images ImageData::batch(std::span<const int> examples) const {
  Images images{Tensor<float>(static_cast<int>(examples.size()), train.pixels.cols), {}};
  images.labels.reserve(examples.size());
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const int source = examples[i];
    std::copy_n(train.pixels.row(source), train.pixels.cols,
                images.pixels.row(static_cast<int>(i)));
    images.labels.push_back(train.labels[static_cast<std::size_t>(source)]);
  }
  return images;
}

fs::path find_data_file(const fs::path& file, const std::optional<fs::path>& directory) {
  std::vector<fs::path> folders;
  const char* environment = std::getenv("HALFULP_DATA");
  const std::string wanted = " the folder that holds " + file.string();
  std::string remedy = "name" + wanted + " with --data or HALFULP_DATA";
  if (directory) {
    folders.push_back(*directory);
    remedy = "--data must name" + wanted;
  } else if (environment != nullptr && *environment != '\0') {
    folders.emplace_back(environment);
    remedy = "HALFULP_DATA must name" + wanted;
  } else {
    // What was installed with the program comes first: the sources that it was built from may have
    // changed since, or be somebody else's folder on this machine.
    std::error_code no_proc;
    const fs::path program = fs::read_symlink("/proc/self/exe", no_proc);
    if (!no_proc)
      folders.push_back(program.parent_path().parent_path() / "share" / "halfulp" / "data");
#ifdef HALFULP_DATA_DIR
    folders.emplace_back(HALFULP_DATA_DIR);
#endif
  }
  std::string tried;
  for (const fs::path& folder : folders) {
    std::error_code error;
    if (fs::exists(folder / file, error)) return folder / file;
    tried += (tried.empty() ? "" : " and ") + (folder / file).string();
  }
  throw DataError("the data file is not at " + tried + "; " + remedy);
}

// The specification admits only names that are known here.
Dataset load_data(const DataSpec& spec, const std::optional<fs::path>& directory) {
  if (spec.name == "kjv") {
    return load_text(find_data_file(kjv_file, directory), spec.held_out_fraction, spec.held_out);
  }
  return load_digits(find_data_file(digits_file, directory), spec.held_out);
}

}  // namespace halfulp::studies
