"""What no tool answers: small talk, reasons, colours, names, opinions, orders; pure.

A search always finds what is nearest, so such a question must be known before it is searched for.
"""

from __future__ import annotations

import re

# A pattern a line. The first list of each language also holds for a question about a picture file.
_EN = r"""
    \d\s*[+*×÷=]\s*\d
    ^(?:and |so |but )?(?:why|whose)\b
    \bwhy (?:is|are|was|were|did|do|does)\b
    ^(?:and |so |but )?how\b(?! many| often| about| did .* look)
    \bwhat (?:colou?r|brand|make|model|breed|size|age|gender|language)s?\b
    \bwhat (?:kind|type|sort) of .* (?:is|was) (?:this|that|it|the)\b
    ^(?:what(?:'s| is| are) )?(?:the|its|his|her) (?:colou?r|name|age|price|brand)s? of\b
    ^what(?:'s| is| are) (?:the|its|his|her) (?:owner|speed|size|model)s? of\b
    ^what (?:do|does|did|can|could|should|would|will|must|am|an?|if|about)\b(?!.*\b(?:see|show|record|VERB))
    ^who (?:did|do|does|can|will|would|should|am|made|invented|wrote|owns?|knows?|won|built|created|painted|took)\b
    ^who(?:'s| is| are| was| were) (?:this|that|these|those|he|she|it|they|you|i|my|your|the)\b(?! (?:morning|week)\b)
    ^(?:where|when) (?:is|was|were) .*\b(?:taken|made|shot)$
    ^(?:delete|remove|erase|rename|translate|rotate|crop|edit|resize|upload|download|print|read)(?: OBJECT\b|$)
"""
# What a file is asked about that takes more than names of things: a property of one, or what it does.
_EN_OF_A_FILE = r"""
    ^(?:is|are|was|were) (?!there\b).*\b(?:PROPERTY|ACTING)(?: (?:in|on|at|or not|now|here))*$
    ^(?:do|does|did) (?:the|it|he|she|they|th\w+|any\w+|some\w+|people)\b.*\b(?:look|seem|appear|feel|smile|wear)
"""
_ZH_OF_A_FILE = r"""
    ^(?!.*有).*(?:PROPERTY|在(?!里|上|图)[^在的]{1,4})(?:的|着|了)*(?:吗|(?<!什)么|嘛|不|没)$
    ^(?!.*有).*(?:是不是|是否|是)(?:PROPERTY|黑白)的?$
"""
_EN_ALONE = r"""
    ^[\W_]*$
    ^(?:hi|hello|hey|good|bye|goodbye|thanks?|sorry|ok|okay|yes|no|great|nice|help|please|test)(?: SMALL)*$
    ^(?:thanks?(?: you)?|sorry|goodbye)\b(?!.*\b(?:show|find|look|search|list|count|how many|there|any)\b)
    ^what(?:'s| is| are| was| were) (?!(?:the )?(?:total )?number\b|PLACED\b|(?:going|happening|up|new)\b)\w
    ^what (?:time|day|date|year|month) is (?:it|today)\b
    ^who(?:'s| is| was) (?!PLACED\b|\w+ing\b)\w
    ^which (?:is|are|was|were|one|of|do|does|did|would|should|country|city|team)\b
    ^(?:which|what) cameras? (?:is|are|do|does|can)\b
    ^when (?:(?:will|should|would|can|could|am|must)|(?:is|was|were) (?:your|you|he|she))\b
    ^where (?:(?:is|are|am) (?:you|i|he|she|we|they|this|that|it)|(?:was|were) (?:you|he|she|they|it|this))\b
    ^where (?:can|should|could|do|will|would) (?:i|you|we) (?:buy|go|get|eat|live|park|sleep|stay|come)\b
    ^how many (?!photos|pictures|images)(?:[\w']+ )+(?:do|does|did) (?:an?|the|he|she|it) (?:.* )?(?:have|weigh|cost)\b
    ^how many (?:second|minute|hour|day|week|month|year|mile|kilomet(?:er|re)|met(?:er|re)|degree|dollar|euro)s\b
    ^(?:(?:is|are) (?:this|it|he|she|they|these|those)\b(?! possible)|(?:are|were|am) (?:you|i)\b(?! able to))
    ^(?:do|did|would|will|can|could|have) you (?:like|love|want|feel|speak|understand|hear|eat|sleep|sing|dance|talk)\b
    ^(?:do|did|would|will|can|could|have) you (?:work|learn|mind|agree|recommend|suggest|drive|cook)\b
    ^do you know (?:me|him|her|us|them|this|it|what|why|how to)\b
    ^(?:should|shall|might|will (?!you\b)|(?:would|could|can) (?:it|he|she|they))\b
    ^(?:i|you|we)(?: (?:am|are)|'m|'re) (?!looking|searching|trying|interested|after|asking)\w
    ^(?:i|you|we) (?:love|like|hate|think|feel|know|don't|can't|cannot|won't|must|should)\b(?!.*\bthere\b)
    ^my name\b
    ^(?:tell|sing|give)(?: me| us)? (?:an? |another |some |your |the )?(?:joke|story|poem|riddle|fact|secret|song)\b
    ^(?:tell|give)(?: me| us)? (?:an? |some |your |the )?(?:advice|recipe|time|date|weather|news|opinion|something)\b
    ^(?:calculate|compute|solve|uninstall|recommend|suggest|explain|define|compose|ignore|forget|pretend|imagine)\b
    ^(?:(?:turn|switch) (?:on|off|up|down|it|the)|shut down)\b
    ^(?:write|draw|paint|generate|create|make|play|sing|buy|order|book|call|phone|teach|set|open|close) OBJECT\b
    ^(?:lock|unlock|start|stop|restart|install|sort|share|move|copy|save|wake|say|guess|repeat) OBJECT\b
"""
_ZH = r"""
    \d\s*[+*×÷=加减乘除]\s*\d|等于(?:几|多少)
    为什么|为啥|为何|如何|怎样|怎么(?!了|回事|样)|咋(?!了|回事)
    (?:觉得|认为|味道|天气|心情|质量|感觉).*怎么样
    (?:什么|啥|哪种|哪个)(?:颜色|牌子|品牌|车型|型号|意思|名字|材质|材料|性别|表情|心情|味道|声音)
    (?:什么|啥|哪种|哪个)(?:天气|语言|尺码|尺寸|品种|款式|职业|关系|原因|国家|城市)|颜色(?:是|有)?(?:什么|啥|哪)
    (?<![很许好更不太么])多[大高重远快宽深厚久长](?!曝)|多少(?:钱(?!包)|岁|度|公[里斤]|米|分钟|小时|天(?!鹅)|年)|几[岁度]
    (?:车牌|号码|电话|密码|年龄|身高|体重|速度|价格|温度|名字)号?码?(?:是|叫)?(?:多少|什么|几)
    (?:写着?|写了|写的|说着?|说了|说的|想着?)(?:是|些)?(?:什么|啥)|叫什么
    谁是|是谁|谁的|谁(?:发明|写|画|拍的|偷|创造)
    ^把(?!.*(?:找|列|调|翻|搜)).*(?:删|清空|翻译|打开|关|发给|传给|旋转|裁剪|打印|放大|缩小|移到|移动)
    ^(?:删除|删掉|清空|翻译|旋转|裁剪|编辑|打印|重命名|上传|下载|朗读|放大|缩小|美化)(?![机镜器木楼门梯])(?!.*的\w{1,6}$)
"""
_ZH_ALONE = r"""
    ^[\W_]*$
    ^(?:你们?好|您好|大家好|嗨|喂|哈喽|[早晚]上好|[上中下]午好|早|[早晚]安|多谢|谢谢?|感谢|再见|拜拜|抱歉|SMALL)++$
    ^(?:谢谢|感谢|多谢)(?!.*[找看有])
    现在几点|几点了$|今天(?:是)?(?:(?:星期|周|礼拜)几|几[号月])|什么日子
    天气(?:预报|如何|好吗|会|[很热冷])|气温(?!计)|会不会下|会下[雨雪]|空气质量
    ^[你您]们?(?:是(?!否|不是)|叫|会(?!看)|喜欢|爱|觉得|认为|多大|住|在(?:干|做|哪|想)|可以(?:做|干)|吃|睡|累|真|太|很)
    ^[你您]们?(?:能(?:做|干|说|唱|听懂|为我|帮我?(?:做|干)?什么)|有(?:什么功能|名字|感情|朋友|意识))
    ^我(?:是(?!不是|否)|叫|爱(?!人)|喜欢(?!的)|很|好(?![像友])|[饿累困真恨]|不(?!在)|觉得|讨厌|[想要][你吃去睡])
    ^[这那](?:个|只|位|张|辆|条|棵)?(?:人|车|东西|照片|图片|图|狗|猫)?是|^(?:什么是|认识)
    (?<!的)(?<!都)是(?:什么|啥)(?:东西)?$|有(?:什么|啥)(?:用|意思|区别|意义|好处|建议|功能|办法)
    (?:[人们他她狗猫]|孩子)(?:正?在)?(?:做|干)(?:什么|啥)|哪[个种款](?:更|最|好)
    (?:可爱|好看|漂亮|帅|好吃|好玩|开心|高兴|危险|贵|便宜|聪明|幸福)(?:吗|么|不)$
    ^(?:播放|打开(?![的着])|关闭(?!的)|关掉|唱[一首个]|讲[一个]|写[一个首篇封段]|画[一个幅张]|订[一个张餐票])(?!器)(?!.*的\w{1,6}$)
    ^(?:买[一个张]|放[一首]|念一|背[一首]|打电话|发邮件|推荐|解释|设置|[设定]个|叫[车醒]|重启|[关开]机|算一?算)(?!.*的\w{1,6}$)
"""
# What stands for several words above.
_SHORT = {
    "PROPERTY": "red|green|blue|yellow|black|white|gr[ea]y|brown|orange|pink|purple|silver|golden|dark|bright"
    "|colou?rful|happy|sad|angry|tired|sick|drunk|alive|dead|asleep|awake|hungry|old|young|new|clean|dirty|wet|dry|full|empty"
    "|open|closed|broken|big|large|huge|small|tiny|tall|short|long|fat|thin|heavy|expensive|cheap|real|fake|safe|dangerous"
    "|hot|cold|sunny|cloudy|rainy|windy|blurry|blurred|sharp|beautiful|pretty|ugly|cute|male|female|married|alone"
    "|ready|good|bad",
    "ACTING": r"(?!building|painting|ceiling|string|ring|king|thing|wing|swing|clothing|wedding|railing|earring"
    r"|dumpling|anything|something|nothing|everything|morning|evening|parking|crossing|sting|spring|pudding|sibling)\w{2,}ing",
    "OBJECT": "(?:me|us|it|them|him|her|an?|the|all|this|that|these|my|your|every(?:thing)?|some|something)",
    "VERB": "captur|film|catch|find|have|happen",
    "PLACED": "(?:at|in|on|by|near|from|with|outside|inside|behind|under|around|up|out|there|here|visible|seen|recorded"
    "|shown|captured|last|yesterday|today|now|right|between|after|before|since|during|this (?:morning|week))",
    "SMALL": "(?:there|you|so|very|much|a lot|morning|afternoon|evening|night|job|me|all|to meet you|thanks?|hello)",
}
_SHORT_ZH = {
    "PROPERTY": "[红绿蓝黄黑白灰棕橙粉紫银金]色?|彩色|开心|高兴|难过|生气|伤心|累|困|满|空"
    "|[开关睡醒坐站躺]着|大|小|老|年轻|新|旧|干净|脏|湿|坏|贵|真|假|活|死|胖|瘦|高|矮|长|短|漂亮|好看|可爱|危险|安全|晴天|阴天"
    "|下雨|下雪|模糊|清楚|男|女",
    "SMALL": "对不起|不好意思|帮帮?我|没事|没关系|好的?|是的|在[吗不]在?|救命|厉害"
    "|[你您了啊呀吗呢吧哦嘛嗯行对很真太棒]",
}
_LEAD = {
    "en": r"^(?:(?:please|hey|hi|hello|good \w+|ok|okay|and|tell me|(?:can|could|would|will) you) )+(?=\w)",
    "zh": r"^(?:你好|您好|请问?|麻烦你?|嗨|喂|那么?(?!多)|帮[我忙]|能[不否]?能?|可以|给我们?|为我|，)+(?=.)",
}


def _patterns(lines: str, short: dict[str, str]) -> re.Pattern[str]:
    for name, words in short.items():
        lines = lines.replace(name, words)
    return re.compile("|".join(filter(None, map(str.strip, lines.splitlines()))))


_BEYOND = {
    ("en", True): _patterns(_EN + _EN_OF_A_FILE, _SHORT), ("en", False): _patterns(_EN + _EN_ALONE, _SHORT),
    ("zh", True): _patterns(_ZH + _ZH_OF_A_FILE, _SHORT_ZH), ("zh", False): _patterns(_ZH + _ZH_ALONE, _SHORT_ZH),
}  # fmt: skip


def is_beyond(text: str, language: str, *, about_a_file: bool) -> bool:
    """Tell whether no tool answers a question.

    Args:
        text: the question, picture files taken out.
        language: "en" or "zh".
        about_a_file: whether it named a picture file, into which more can be asked than of a search.
    """
    plain = re.sub(r"[?？.。!！;；,\s]+", " ", text.lower().replace("’", "'")).strip()
    plain = plain.replace(" ", "") if language == "zh" else plain
    pattern = _BEYOND[language, about_a_file]
    return any(pattern.search(form) for form in (plain, re.sub(_LEAD[language], "", plain)))
