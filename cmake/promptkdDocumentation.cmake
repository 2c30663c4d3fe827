# SPDX-License-Identifier: Apache-2.0
# The target `documentation`: the reference of everything public in include/promptkd, grouped by room, made by Doxygen in
# <build>/documentation/html. What is public and has no comment is an error. The first page is the map of the rooms.

find_package(Doxygen 1.9.1 QUIET)
if(NOT DOXYGEN_FOUND)
    message(STATUS "the target documentation is off: missing Doxygen (Debian: doxygen)")
    return()
endif()

# The groups come from the map in include/promptkd/README.md: its rows "| `room` | what it holds |".
set(map "${PROJECT_SOURCE_DIR}/include/promptkd/README.md")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${map}")
file(STRINGS "${map}" rows REGEX "^\\| `[a-z]+` \\|")
set(groups "")
foreach(row IN LISTS rows)
    string(REGEX REPLACE " \\(\\[[^]]*\\]\\([^)]*\\)\\)" "" row "${row}")  # links of the map, "([more](…))"
    string(REGEX REPLACE "^\\| `([a-z]+)` \\| (.*) \\|$" "/** @defgroup \\1 \\1\n    \\2. */\n" group "${row}")
    string(APPEND groups "${group}")
endforeach()
set(output "${PROJECT_BINARY_DIR}/documentation")
file(CONFIGURE OUTPUT "${output}/rooms.dox" CONTENT "${groups}" @ONLY)

set(DOXYGEN_OUTPUT_DIRECTORY "${output}")
set(DOXYGEN_PROJECT_BRIEF "${PROJECT_DESCRIPTION}")
set(DOXYGEN_USE_MDFILE_AS_MAINPAGE "${map}")
set(DOXYGEN_FILE_PATTERNS *.hpp README.md rooms.dox)
set(DOXYGEN_FILTER_PATTERNS "*.hpp=\"sh ${PROJECT_SOURCE_DIR}/cmake/documentation_filter.sh\"")
set(DOXYGEN_VERBATIM_VARS DOXYGEN_FILTER_PATTERNS)
set(DOXYGEN_STRIP_FROM_PATH "${PROJECT_SOURCE_DIR}/include")
set(DOXYGEN_STRIP_FROM_INC_PATH "${PROJECT_SOURCE_DIR}/include")
set(DOXYGEN_EXTRACT_ALL NO)
set(DOXYGEN_EXCLUDE_SYMBOLS detail *::detail promptkd::detail promptkd::detail::*)
set(DOXYGEN_MACRO_EXPANSION YES)
set(DOXYGEN_EXPAND_ONLY_PREDEF YES)
set(DOXYGEN_PREDEFINED "PROMPTKD_HD=" "__CUDACC__" "PROMPTKD_COMPILED_CLASS(x)=static_assert(true)"
                       "PROMPTKD_COMPILED_FUNCTION(...)=static_assert(true)")
set(DOXYGEN_SEARCH_INCLUDES NO)
set(DOXYGEN_JAVADOC_AUTOBRIEF YES)
set(DOXYGEN_DISTRIBUTE_GROUP_DOC YES)
set(DOXYGEN_SORT_MEMBER_DOCS NO)
set(DOXYGEN_HAVE_DOT NO)
set(DOXYGEN_QUIET YES)
set(DOXYGEN_WARN_IF_UNDOCUMENTED YES)
set(DOXYGEN_WARN_AS_ERROR FAIL_ON_WARNINGS)
doxygen_add_docs(documentation "${PROJECT_SOURCE_DIR}/include/promptkd" "${output}/rooms.dox"
                 COMMENT "The reference of include/promptkd")
