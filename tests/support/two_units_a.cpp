// SPDX-License-Identifier: Apache-2.0
#include <promptkd/promptkd.hpp>

const void* version_address_in_a() { return &promptkd::version; }
