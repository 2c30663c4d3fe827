// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/format/protobuf.hpp>

#include <bit>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace promptkd {

/// An attribute of an ONNX node: an integer, a float, a list of integers or a text.
struct OnnxAttribute {
    std::string name;                                                                 ///< as the operator calls it
    std::variant<std::int64_t, float, std::vector<std::int64_t>, std::string> value;  ///< its type follows from it
};

/// An extent of an ONNX input or output: a number, or a name for one that is free.
using OnnxExtent = std::variant<Index, std::string>;

/// A graph of ONNX operators (opset 17) that is built node by node and written as a model. Values are called by their
/// names. Floating-point weights are stored in the element type of the graph, f32 or f16; results of nodes are of the
/// type that the operators give.
///
/// The file is written field by field: the encoding takes fewer lines than a dependency on protobuf and its compiler
/// would, and weights go to the file from where they lie. Field numbers are those of onnx.proto (version 1.12).
class OnnxGraph {
public:
    using Values = std::vector<std::string>;        ///< names of a node's inputs
    using Attributes = std::vector<OnnxAttribute>;  ///< of a node

    static constexpr int opset = 17;      ///< of the operators
    static constexpr int ir_version = 8;  ///< of the file format
    /// Bytes of weights from which they go into a file of their own: a protobuf message ends at 2 GiB.
    static constexpr std::size_t embedded_limit = (std::size_t{1} << 31) - (std::size_t{1} << 24);

    /// Weights are stored as `elements`: f32 or f16. Throws Error for another type.
    OnnxGraph(std::string name, DType elements) : name_(std::move(name)), elements_(elements) {
        require(elements == DType::f32 || elements == DType::f16, "ONNX models are written in f32 or f16, not in ",
                name_of(elements));
    }

    /// The type of the weights.
    DType elements() const { return elements_; }

    /// Adds an input of the model; returns its name.
    std::string input(const std::string& name, DType type, const std::vector<OnnxExtent>& shape) {
        inputs_.push_back(value_info(name, type, shape));
        return name;
    }
    /// Makes `value` an output of the model, called `name`.
    void output(const std::string& value, const std::string& name, DType type, const std::vector<OnnxExtent>& shape) {
        nodes_.push_back(node_message("Identity", {value}, {name}, {}));
        outputs_.push_back(value_info(name, type, shape));
    }

    /// The weight called `name`, converted to the graph's type. A name that is there already is that weight; values are
    /// not looked at again.
    std::string weight(const std::string& name, const HostTensor& tensor) {
        if (known_.insert(name).second) weights_.push_back({name, narrowed(name, tensor)});
        return name;
    }
    /// The same in `type`, whatever the type of the graph.
    std::string constant(const std::string& name, HostTensor tensor) {
        if (known_.insert(name).second) weights_.push_back({name, std::move(tensor)});
        return name;
    }
    /// One number of the graph's type, or of f32.
    std::string number(double value) { return number(value, elements_); }
    /// One number of type f32 or f16.
    std::string number(double value, DType type) {
        const float narrow = static_cast<float>(value);
        const std::string name = concat(type == DType::f16 ? "half_" : "float_", std::bit_cast<std::uint32_t>(narrow));
        return constant(name, type == DType::f16 ? make_tensor(std::vector<half>{half(narrow)}, {})
                                                 : make_tensor(std::vector<float>{narrow}, {}));
    }
    /// A list of integers: shapes, axes, indices.
    std::string integers(const std::vector<std::int64_t>& values) {
        std::string name = "integers";
        for (const std::int64_t value : values) name += "_" + std::to_string(value);
        return constant(name, make_tensor(std::vector<std::int64_t>(values), {static_cast<Index>(values.size())}));
    }

    /// The result of an operator with one output.
    std::string node(const std::string& op, const Values& inputs, const Attributes& attributes = {}) {
        return nodes(op, 1, inputs, attributes).front();
    }
    /// The `count` results of an operator with several.
    Values nodes(const std::string& op, std::size_t count, const Values& inputs, const Attributes& attributes = {}) {
        Values outputs;
        for (std::size_t i = 0; i < count; ++i) outputs.push_back(op + "_" + std::to_string(values_++));
        nodes_.push_back(node_message(op, inputs, outputs, attributes));
        return outputs;
    }
    /// `value` in another type.
    std::string cast(const std::string& value, DType type) {
        return node("Cast", {value}, {{"to", std::int64_t{onnx_type(type)}}});
    }

    /// An entry of the model's metadata.
    void metadata(const std::string& key, const std::string& value) { metadata_.emplace_back(key, value); }

    /// Writes the model to `path`, all or nothing; weights of `limit` bytes and more together to `path`_data beside it,
    /// as ONNX's external data. Throws Error when that cannot be done.
    void write(const std::string& path, std::size_t limit = embedded_limit) const {
        std::size_t total = 0;
        for (const auto& named : weights_) total += named.second.size_bytes();
        if (total >= limit) return write_apart(path);
        const ProtobufMessage head = graph_without_weights();
        std::vector<ProtobufMessage> fields;
        std::size_t size = head.bytes().size();
        for (const auto& [name, tensor] : weights_) {
            fields.push_back(weight_field(name, tensor));
            size += fields.back().bytes().size() + tensor.size_bytes();
        }
        AtomicFile file(path);
        file.write(model_header(size).bytes());
        file.write(head.bytes());
        for (std::size_t i = 0; i < weights_.size(); ++i) {
            file.write(fields[i].bytes());
            file.write(weights_[i].second.bytes, weights_[i].second.size_bytes());
        }
        file.commit();
    }

private:
    using Named = std::pair<std::string, HostTensor>;

    /// TensorProto.DataType.
    static int onnx_type(DType type) {
        switch (type) {
            case DType::f32:
                return 1;
            case DType::u8:
                return 2;
            case DType::i32:
                return 6;
            case DType::i64:
                return 7;
            case DType::boolean:
                return 9;
            case DType::f16:
                return 10;
            case DType::f64:
                return 11;
            default:
                fail("ONNX models are written without values of type ", name_of(type));
        }
    }

    /// `tensor` in the graph's type. Throws Error for a value that is finite there and not here.
    HostTensor narrowed(const std::string& name, const HostTensor& tensor) const {
        if (tensor.dtype == elements_) return tensor;
        if (elements_ == DType::f32) return make_tensor(tensor.to<float>(), tensor.shape);
        const std::vector<float> values = tensor.to<float>();
        constexpr float largest = 65504;
        std::vector<half> halves;
        for (const float value : values) {
            require(!(std::abs(value) > largest), "'", name, "' holds ", value, ", beyond the ", largest,
                    " of 16-bit numbers; export in fp32");
            halves.push_back(half(value));
        }
        return make_tensor(std::move(halves), tensor.shape);
    }

    static ProtobufMessage value_info(const std::string& name, DType type, const std::vector<OnnxExtent>& shape) {
        ProtobufMessage dimensions;
        for (const OnnxExtent& extent : shape) {
            ProtobufMessage dimension;
            if (const Index* number = std::get_if<Index>(&extent))
                dimension.integer(1, *number);
            else
                dimension.text(2, std::get<std::string>(extent));
            dimensions.message(1, dimension);
        }
        ProtobufMessage tensor, any, value;
        tensor.integer(1, onnx_type(type)).message(2, dimensions);
        any.message(1, tensor);
        value.text(1, name).message(2, any);
        return value;
    }

    static ProtobufMessage attribute_message(const OnnxAttribute& attribute) {
        ProtobufMessage message;
        message.text(1, attribute.name);
        if (const auto* integer = std::get_if<std::int64_t>(&attribute.value)) {
            message.integer(3, *integer).integer(20, 2);
        } else if (const auto* number = std::get_if<float>(&attribute.value)) {
            message.number(2, *number).integer(20, 1);
        } else if (const auto* text = std::get_if<std::string>(&attribute.value)) {
            message.text(4, *text).integer(20, 3);
        } else {
            for (const std::int64_t i : std::get<std::vector<std::int64_t>>(attribute.value)) message.integer(8, i);
            message.integer(20, 7);
        }
        return message;
    }

    static ProtobufMessage node_message(const std::string& op, const Values& inputs, const Values& outputs,
                                        const Attributes& attributes) {
        ProtobufMessage message;
        for (const std::string& input : inputs) message.text(1, input);
        for (const std::string& output : outputs) message.text(2, output);
        message.text(3, outputs.front()).text(4, op);
        for (const OnnxAttribute& attribute : attributes) message.message(5, attribute_message(attribute));
        return message;
    }

    static ProtobufMessage tensor_message(const std::string& name, const HostTensor& tensor) {
        ProtobufMessage message;
        for (const Index extent : tensor.shape) message.integer(1, extent);
        message.integer(2, onnx_type(tensor.dtype)).text(8, name);
        return message;
    }

    /// A graph's field for a weight, up to its bytes.
    static ProtobufMessage weight_field(const std::string& name, const HostTensor& tensor) {
        ProtobufMessage message = tensor_message(name, tensor), field;
        message.header(9, tensor.size_bytes());
        return field.header(5, message.bytes().size() + tensor.size_bytes()).raw(message.bytes());
    }

    static ProtobufMessage entry(const std::string& key, const std::string& value) {
        ProtobufMessage message;
        message.text(1, key).text(2, value);
        return message;
    }

    ProtobufMessage graph_without_weights() const {
        ProtobufMessage graph;
        for (const ProtobufMessage& node : nodes_) graph.message(1, node);
        graph.text(2, name_);
        for (const ProtobufMessage& input : inputs_) graph.message(11, input);
        for (const ProtobufMessage& output : outputs_) graph.message(12, output);
        return graph;
    }

    /// A ModelProto up to the bytes of its graph.
    ProtobufMessage model_header(std::size_t graph_size) const {
        ProtobufMessage operators, model;
        operators.text(1, "").integer(2, opset);
        model.integer(1, ir_version).text(2, "promptkd").text(3, version).message(8, operators);
        for (const auto& [key, value] : metadata_) model.message(14, entry(key, value));
        model.header(7, graph_size);
        return model;
    }

    void write_apart(const std::string& path) const {
        constexpr std::size_t small = 1024;
        const std::string beside = path + "_data";
        const std::string name = beside.substr(beside.find_last_of('/') + 1);
        AtomicFile data(beside);
        std::size_t offset = 0;
        ProtobufMessage graph = graph_without_weights();
        for (const auto& [weight, tensor] : weights_) {
            if (tensor.size_bytes() < small) {  // shapes and axes: checkers read them where they stand
                graph.raw(weight_field(weight, tensor).bytes());
                graph.raw({reinterpret_cast<const char*>(tensor.bytes), tensor.size_bytes()});
                continue;
            }
            ProtobufMessage message = tensor_message(weight, tensor);
            message.message(13, entry("location", name)).message(13, entry("offset", std::to_string(offset)));
            message.message(13, entry("length", std::to_string(tensor.size_bytes()))).integer(14, 1);
            graph.message(5, message);
            data.write(tensor.bytes, tensor.size_bytes());
            offset += tensor.size_bytes();
        }
        AtomicFile file(path);
        file.write(model_header(graph.bytes().size()).bytes());
        file.write(graph.bytes());
        data.commit();
        file.commit();
    }

    std::string name_;
    DType elements_;
    std::vector<ProtobufMessage> nodes_, inputs_, outputs_;
    std::vector<Named> weights_;
    std::set<std::string> known_;
    std::vector<std::pair<std::string, std::string>> metadata_;
    std::size_t values_ = 0;
};

}  // namespace promptkd
