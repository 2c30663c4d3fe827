// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace promptkd {

/// `text` for the inside of an element or of an attribute's value in HTML, SVG and XML.
inline std::string escape_markup(const std::string& text) {
    std::string out;
    for (const char c : text) switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default:
                out += c;
        }
    return out;
}

/// `text` for a cell of a Markdown table: on one line, without a column's border and without HTML.
inline std::string escape_markdown(const std::string& text) {
    std::string out;
    for (const char c : text) switch (c) {
            case '|':
                out += "\\|";
                break;
            case '<':
                out += "&lt;";
                break;
            case '\n':
            case '\r':
                out += ' ';
                break;
            default:
                out += c;
        }
    return out;
}

}  // namespace promptkd
