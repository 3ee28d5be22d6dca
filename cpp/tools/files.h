// files.h: reading files, and models and texts in them, for the command line programs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "session/session.h"

namespace tern {

/// Calls `use` with the file's bytes, a piece at a time, until it fails or the file ends.
Result<void> for_each_piece(const std::string& path, const std::function<Result<void>(std::span<const uint8_t>)>& use);

Result<std::vector<uint8_t>> read_file(const std::string& path);

/// The tokens of a text file, see text/documents.h; bytes that are not UTF-8 stay.
Result<std::vector<uint8_t>> read_text(const std::string& path);

/// The same, but bytes that are not UTF-8 are an error: the file is no text, or of another encoding.
/// A name that ends in .bin is a prepared text: its documents already end with 255 (scripts/prepare_data.py writes
/// it).
Result<std::vector<uint8_t>> read_text_file(const std::string& path);

/// Streams the file into a model.  Errors begin with the path.  Prints the model's warnings, if any, on stderr.
Result<std::shared_ptr<const Model>> load_model(const std::string& path);

/// Says how much of a text its model's context takes.
Error context_full(uint64_t taken, uint64_t tokens);
/// Or the memory there is, whichever ended the session's last call.
Error cut_short(const Session& session, uint64_t taken, uint64_t tokens);

/// session.feed(text), where a text of which only a part fits is an error.
Result<void> feed_whole(Session& session, std::span<const uint8_t> text, Observer* observer = nullptr);
Result<void> feed_whole(Session& session, std::span<const Token> tokens);

}  // namespace tern
