#pragma once

namespace verify {

// halfulp-verify hardware DIR [--only S] [--json]; the exit code: 0, 1 after a mismatch, 2 after an
// error.
int hardware_main(int argc, char** argv);

}  // namespace verify
