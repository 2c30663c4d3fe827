// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/torch_tree.hpp>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// The two forms of torch's files: a zip archive (torch.save since 1.6, and TorchScript), and five pickles with raw
/// storages.
enum class TorchForm { none, zip, legacy };

namespace detail {

/// First bytes of the legacy form: a pickle of the number 0x1950a86a20f9469cfc6c.
inline constexpr std::string_view legacy_magic{"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15};

/// "archive/" of "archive/data.pkl".
inline std::string archive_root(const ZipArchive& archive) {
    std::string root;
    int found = 0;
    for (const ZipEntry& entry : archive.entries()) {
        const std::size_t slash = entry.name.find('/');
        if (slash == std::string::npos || entry.name.compare(slash, std::string::npos, "/data.pkl") != 0) continue;
        root = entry.name.substr(0, slash + 1);
        ++found;
    }
    require(found == 1, archive.path(), ": not a file of torch: ", found == 0 ? "no" : "more than one",
            " entry 'FOLDER/data.pkl' in the zip archive");
    return root;
}

inline TensorMap read_torch_zip(const FileBytes& file) {
    const ZipArchive archive(file);
    const std::string root = archive_root(archive);
    if (archive.contains(root + "byteorder")) {
        const ZipArchive::Bytes order = archive.read(root + "byteorder");
        require(std::string_view(reinterpret_cast<const char*>(order.data), order.size) == "little", file.path,
                ": its numbers are big-endian, which is not supported");
    }
    const ZipArchive::Bytes data = archive.read(root + "data.pkl");
    const Pickle pickle =
        Pickle::parse({reinterpret_cast<const char*>(data.data), data.size}, file.path + ": data.pkl");
    TensorMap map;
    map.source = file.path;
    TorchTensors tensors(pickle, file.path,
                         [&](const TorchStorage& storage) { return archive.read(root + "data/" + storage.key); });
    TorchTree(pickle, tensors, map).collect();
    map.metadata["file_format"] = archive.contains(root + "constants.pkl") ? "TorchScript archive" : "torch zip";
    return map;
}

/// Where each storage of a legacy file lies: after an int64 count, in the order of `keys`.
inline std::map<std::string, ZipArchive::Bytes> legacy_storages(const FileBytes& file, const Pickle& object,
                                                                const TorchTensors& tensors, const Pickle& keys,
                                                                std::size_t position) {
    std::map<std::string, TorchStorage> described;
    for (std::size_t i = 0; i < object.size(); ++i) {
        if (object[static_cast<Pickle::Ref>(i)].kind != Pickle::Kind::persistent) continue;
        const TorchStorage storage = tensors.storage_of(static_cast<Pickle::Ref>(i));
        const auto place = described.emplace(storage.key, storage);
        require(place.first->second.type == storage.type && place.first->second.count == storage.count, file.path,
                ": storage '", storage.key, "' is described in two ways");
    }
    std::map<std::string, ZipArchive::Bytes> storages;
    require(keys[keys.root()].kind == Pickle::Kind::list, file.path, ": its list of storage keys is not a list");
    for (const Pickle::Ref ref : keys[keys.root()].items) {
        const std::string key(keys[ref].text);
        const auto it = described.find(key);
        require(keys[ref].kind == Pickle::Kind::text && it != described.end(), file.path, ": storage '", key,
                "' is used by no tensor, so its size is unknown");
        require(file.size() - position >= 8, file.path, ": truncated before storage '", key, "'");
        const std::uint64_t count = read_le(file.text, position, 8);
        position += 8;
        require(count == it->second.count, file.path, ": storage '", key, "' has ", count,
                " elements, its description says ", it->second.count);
        const std::uint64_t unit = size_of(it->second.type);
        require(count <= (file.size() - position) / unit, file.path, ": truncated in storage '", key, "'");
        const ZipArchive::Bytes bytes{file.data() + position, static_cast<std::size_t>(count * unit), file.owner,
                                      file.mapped};
        require(storages.emplace(key, bytes).second, file.path, ": storage '", key, "' occurs twice");
        position += bytes.size;
    }
    require(position == file.size(), file.path, ": ", file.size() - position, " bytes after the last storage");
    return storages;
}

inline TensorMap read_torch_legacy(const FileBytes& file) {
    std::size_t position = 0;
    const auto next = [&](const char* part) {
        std::size_t used = 0;
        Pickle pickle = Pickle::parse(file.text.substr(position), file.path + ": " + part, &used);
        position += used;
        return pickle;
    };
    next("magic number");
    const Pickle protocol = next("protocol"), system = next("system information"), object = next("tensors"),
                 keys = next("storage keys");
    require(protocol[protocol.root()].integer == 1001, file.path, ": protocol ", protocol[protocol.root()].integer,
            " of torch.save, expected 1001");
    const Pickle::Ref little = system.find(system.root(), "little_endian");
    require(little != 0 && system[little].integer == 1, file.path,
            ": its numbers are big-endian, which is not supported");
    TensorMap map;
    map.source = file.path;
    std::map<std::string, ZipArchive::Bytes> storages;
    TorchTensors tensors(object, file.path, [&](const TorchStorage& storage) {
        const auto it = storages.find(storage.key);
        require(it != storages.end(), file.path, ": storage '", storage.key, "' is missing");
        return it->second;
    });
    storages = legacy_storages(file, object, tensors, keys, position);
    TorchTree(object, tensors, map).collect();
    map.metadata["file_format"] = "torch legacy pickle";
    return map;
}

}  // namespace detail

/// Which of torch's forms a file that begins with `head` has.
inline TorchForm torch_form(std::string_view head) {
    if (ZipArchive::recognises(head)) return TorchForm::zip;
    return head.substr(0, detail::legacy_magic.size()) == detail::legacy_magic ? TorchForm::legacy : TorchForm::none;
}

/// The named tensors of a file that torch wrote: a TorchScript archive, a `torch.save` file of a state dictionary, of a
/// checkpoint around one, or of a module; zip or legacy form. The pickle inside is read as data: nothing in it can be
/// called (see Pickle). Stored tensors point into the file's mapping. Metadata: `file_format`; `epoch` of a checkpoint.
/// Throws Error naming file, entry or tensor, and the reason.
inline TensorMap read_torch(const FileBytes& file) {
    refuse_placeholder(file.path, file.text);
    const TorchForm form = torch_form(file.text);
    require(form != TorchForm::none, file.path, ": not a file of torch (neither a zip archive nor its legacy form)");
    return form == TorchForm::zip ? detail::read_torch_zip(file) : detail::read_torch_legacy(file);
}

/// The same for a file, which is mapped.
inline TensorMap read_torch(const std::string& path) { return read_torch(FileBytes::open(path)); }

}  // namespace promptkd
