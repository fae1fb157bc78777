"""Words of language, not of the domain: what the parser needs to read a question in five languages.

Names of modalities, methods, tasks and so on come from the knowledge base. Here is only what no entity owns: stop
words, negation, possession, ways to say "black box", "3D" or "fast". All entries are folded: lower case, no diacritics.
"""

from __future__ import annotations

import re


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP = _set(
    # English
    """
    a about above access achieve across actual actually after again against all along already also although
    always am among an and another any anybody anyone anything apart appropriate approach approaches are around
    as ask asking at audience audiences available away back based be because become been before being below best
    better between beyond both bring but by call called came can cannot cant case cases certain check choose
    clear come comparable compare compared comparing comparison compute consider could course current currently
    data dataset datasets deep default dear describe did differ difference different do does easier easiest
    cheaper cheapest faster fastest slow slower slowest doesnt doing done dont down each either else end enough
    etc even ever every everything example examples exist expect fair far few figure find first fit fits fitting
    five following for found from full further general get gets getting give given gives giving go goes going
    good got great group had hand handle happen has have having he hello help helpful her here hi him his hope
    how however i idea ideal if im image images imaging in include including individual inform input inputs
    inside instance instead into involve is isnt it its itself just keep kind kinds know known large last later
    lead least less let lets like likely list little ll long look looking looks lot made main mainly major make
    makes making many may maybe me mean means might mine more most mostly much must my myself need needed needs
    never new next nice no non none nor normal not nothing now number of off often ok okay old on once one ones
    only onto open option options or order other others our ours out output outputs over own paper papers part
    particular people per perform performance perhaps person picture pictures place please point possible
    possibly prefer preferably prefers present pretty probably problem produce project proper properly provide
    published put question questions quite radiological radiology rather re read real really reason reasonable
    reasons recent recommend recommendation recommendations recommended regarding related relevant rely require
    required research result results right run running said same say says scan scanned scans second see seem
    seems send serve set setting several shall she should show showing shown shows similar simple simply since
    single situation small so some somebody someone something sort start state still straight study studies such
    suggest suggestion suggestions suit suitable suited suits support sure take taken takes taking task tell
    than thank thanks that the their them themselves then there these they thing things think this those though
    through thus time times to today together too took topic totally toward towards tried true try trying turn
    two type types under understand understanding understandable up upon us use used useful user users uses
    using usual usually various ve versus very via view vs want wanted wants was way ways we well were what
    whats whatever when where wherever whether which while who whole whom whose why widely will wish with within
    without wont word words work working works worse worst would write wrong yes yet you your yours yourself
    """
    # what people say around a question
    """
    alternative alternatives anyway app asked asks bought box check checked checking colleague colleagues come
    confused
    count counts curious deciding decided decides deploy deployed device during everywhere experience explore fail
    fails
    failed fine finish generate generated generating guess hate heard hey hint hints intention interested issue
    issues
    job lab laptop lead leads let lets love matter matters meant mind money newbie noob oops opinion opinions phone
    plan planning plus possibility pros cons question ready reading reliable reliability safe saw score scores
    scoring
    sees sense sorry speed step stuff super suspect switch team thesis thought thoughts told total train trains
    trusted trustworthy tuned unsure used valid wait wonder wondering worth wrote year years yes
    """
    # German and other tongues, the same
    """
    achtet achten aktuell arbeite arbeiten aufgabe begrunden begrundung bekommen beste braucht brauchen brauchte
    entscheidet entscheiden entscheidungen erklare erklaren erklart fall falls fallen frage fragen funktioniert
    genau glauben gucken hatten helfen herausfinden hersteller klappt kommt kommen liegt liegen macht machen moglich
    nachvollziehen nachvollziehbar nehmen probleme pro projekt richtig sagen sagt schauen schaut sehen sicher sieht
    taugt trauen verlassen verlasslich versteht vertrauen warum welch weiss weshalb wissen worauf wodurch wozu wurde
    wurden zahlt zuverlassig zwei
    affiche aider aidez besoin cas certaines chercher cherche comprendre confiance connaitre conseil conseils croire
    devrais devrait disponible donne donner essayer existe fiable fiables fier fournir fournit heure hopital marche
    montre moyen necessaire obtenir patients possible pourrais pourrait presenter prend probleme projet regarde
    regardent savoir serait servir simplement souvent temps travail travaille travaillons trouver utilisation
    utilisons
    verifier vrai
    ayuda ayudar buscar busco comprender confiar confianza conocer consejo cree decir dice dio ejemplo entender
    entiende
    esto existe fiable fiables forma funcionan gusta hago hacemos hospital intento mira miran mirar mostrar necesita
    necesitamos obtener parece pide piden posible problema proyecto puedan pueden queremos quiere quieren saber sabe
    servir siempre sistema sistemas tener tiempo trabaja trabajo trabajamos tratar util ver verdad vez
    """
    # the domain's own small talk
    """
    ai algorithm algorithms analyse analysis analyze answer answers application artificial art bild clinical
    computer convolution convolutional decision decisions deeplearning diagnose diagnosis diagnostic disease
    explain explainability explainable explained explainer explainers explaining explains explanation
    explanations feature features hospital intelligence interpret interpretability interpretable interpretation
    interpretations interpreting learn learned learning library lesion lesions machine map maps medical medicine
    method methods ml model models net nets network networks neural output package patch pathology pipeline
    pixel pixels predict predicted predicting prediction predictions predicts pytorch region regions samples
    scored software structure structures system systems technique techniques tensorflow tool toolbox tools
    trained training transparency transparent trust visual visualise visualising visualize visualizing xai
    e.g i.e max maximum tops limit budget minute minutes second seconds hour hours
    """
    # German
    """
    aber alle allem allen aller alles als also am an andere anderen auch auf aufnahme aufnahmen aus ausgabe
    basiert bei beim beispiel beispiele benutzen besser besten beste bester bestes bild bildern bilder bilddaten
    bin bis bitte brauche da dafur damit dann daran darauf das dass daten dem den denn der des die dies diese
    diesem diesen dieser dieses doch du durch eignen eignet erklarbarkeit ein eine einem einen einer eines
    einfach empfehlen empfehlt empfehlung entscheidung er erklaren erklarbar erklarbare erklart erklarung
    erklarungen erklarungsmethode erklarungsmethoden es etwas euch fur gab ganz geeignet geeignete geeigneten
    geht gerade gern gibt gut gute guten habe haben hat hatte heisst hier hilft ich ihr im in indem ins ist ja
    jede jeder jetzt kann kannst klinisch klinische konnen konnte kunstliche lasst man mehr mein meine meinem
    meinen meiner mich mir mit mittels mochte modell modelle modells modellen muss mussen nach netz netze netzes
    netzwerk neben neuronale neuronales nimmt noch nun nur nutzen ob oder ohne passen passt passende sein seine
    selbst sich sie sind sinnvoll so soll sondern lieber sollte sollten statt tiefe tiefes um und uns unser
    unsere unseren unter verfahren vergleich verstehen verwenden verwendet viel vom von vor vorhersage
    vorhersagen wann war warum was weil welche welchem welchen welcher welches wenn wer werden wie wird wir wo
    wofur wollen wurde zeige zeigen zeigt zu zum zur zwischen methode methoden ki technik techniken
    """
    # French
    """
    a ai ainsi alors apprentissage apres au aucun aussi autre autres aux avec avoir avant avons beaucoup bien
    bon bonne c ca car ce cela celle celui ces cet cette ceux chaque chez choisir comme comment conseillez d
    dans de decision decisions depuis des deux doit donc donnees dont du elle elles en entre es est et etait
    etes etre eux expliquer explique explication explications explicabilite explicable fait faire faut
    fonctionne il ils image images interpretabilite j je jai l la laquelle le lequel les lesquelles leur leurs
    lors lui m ma mais me meilleur meilleure meilleures meilleurs meme mes methode methodes mieux mise modele
    modeles moi moins mon montrer n ne nos notre nous on ou ou outil outils par parce pas permet peut peux plus
    plutot pour pourquoi pouvez pouvons prediction predictions profond proposez puis qu quand que quel quelle
    quelles quels qui quoi recommandation recommandez reseau reseaux reseaux s sa sans se selon sera ses si son
    sont sous souhaite souhaitons sur t te technique techniques tous tout toute toutes tres tu un une utile
    utiliser utilise utilises veut veux vers voir vos votre voudrais vous y neurones
    """
    # Spanish
    """
    a adecuado adecuada adecuados adecuadas ademas al algo alguna alguno algun ante antes aprendizaje aqui asi
    aunque bajo bien buena bueno cada clinica clinico como con cual cuales cualquier cuando cuanto datos de debe
    debo debemos deberia decision decisiones del desde donde dos e el ella ellas ellos en entre era es esa ese
    eso esta estas este esto estos esta estan explicacion explicaciones explicabilidad explicable explicar
    explica explique fue funciona ha hacer hacia han hasta hay imagen imagenes interpretabilidad interpretar la
    las le les lo los mas me mejor mejores menos metodo metodos mi mis modelo modelos mostrar mucho muy nada
    necesito neuronal ni no nos nosotros nuestra nuestro o otra otras otro otros para pero poco podria por
    porque prediccion predicciones profundo puede puedo pues que quien quiero recomendacion recomendais
    recomienda recomiendan recomiendas red redes se sea segun ser si sin sirve sobre son su sus tal tambien tan
    tanto te tecnica tecnicas tengo tiene tienen todas todo todos tu tus u un una unas uno unos usa usar uso
    usted utilizar va y ya yo
    """
)
"""Words that carry no content of their own; they are neither matched nor listed as unmatched."""

STOP_CJK = _set(
    """
    知道 这样 那样 哪一种 哪一个 哪种 哪个 哪些 什么样 什么 怎么样 怎么 如何 怎样 为什么 请问 请
    推荐 建议 应该 可以 能够 需要 想要 使用 采用 选择 用于 用来 适合 适用于 适用 最好 更好 最佳
    最 更 比较 方法 技术 算法 工具 模型 网络 神经网络 深度学习 学习 人工智能 机器学习 解释性
    可解释性 可解释 解释 说明 理解 图像 影像 图片 数据 扫描 医学 医疗 临床 诊断 预测 结果 决策
    判断 任务 问题 我们 我 你 您 他 她 它 这个 那个 这 那 是 的 了 吗 呢 吧 和 与 或者 或
    还是 以及 及 对于 对 在 中 上 下 里 给 让 把 被 从 到 为 用 做 有 要 想 会 能 好 个
    种 一 些 并 而 但是 但 而是 不 没 没有 无 非 之 其 所 进行 关于 时 啊 基于 分析 看
    哪里 看到 生成 哪 只 性 张 以内 之内 内 重要 重 可靠 可信 谁 很 也 都 就 吧 该 请教 帮忙 帮 求
    各位 大家 一下 有没有 是否
    能否 这样 这张 那张 来 去 时候 现在 目前 希望 觉得 时间 情况 里面 真的 相关 具体 其他 别的 它们 他们 患者 病人
    """
)
"""Chinese stop words, cut out of what is left between matches."""

NOT = _set(
    """
    not no non without except excluding exclude neither nor avoid avoiding cannot cant dont doesnt isnt wont
    didnt havent hasnt never insteadof ratherthan otherthan nolonger lack lacks lacking apartfrom nicht kein
    keine keinen keiner keinem keines ohne statt anstatt anstelle ausser weder pas sans sauf aulieu plutotque
    hormis jamais sin excepto enlugarde envezde salvo ningun ninguna tampoco toutsauf todomenos everythingbut
    anythingbut
    allbut butnot arent wasnt shouldnt
    别用 别 拿不到 获取不到 没法 得不到 不提供 不公开 不给 不是 不要 不用 不想 不使用 不能 不需要
    并非 排除 除去 没有 无 无法 无需 非 除了 而不是 不
    skip skipping forget ignore leaveout enoughof tiredof sickof fedup dislike hate dontlike refuse refuses
    refused unable
    vergiss vergessen weglassen satt oublie oubliez olvida olvidar olvidate
    """
)
"""Negation cues, joined without spaces."""

NOT_NEGATING = _set(
    """
    notonly nichtnur passeulement nosolo nosolamente whynot notjust noidea notsure noclue nodoubt nomatter
    warumnicht
    pourquoipas porqueno 不仅 不知道 不只 不错 不确定 不同 为什么不
    """
)
"""Phrases that hold a negation cue and negate nothing."""

AND = _set("or nor and oder und noch ou et ni o y u 或 和 或者 与 及")
"""Words that carry a negation or possession on to the next name."""

FILL = _set(
    """
    a an any the my our your this that these of to for from use using used want wanted wants need needs have mean
    talking asking interested looking thinking share release disclose open publish reveal inspect touch reach give
    anymore another just only sure explain method methods c est cest es esto eine einen kein wir ich man
    bekommen sehen je nous on
    having has had access on in about with is are it be do does get getting got see compute calculate obtain
    expose exposes provide provides give gives read at all by been plain more den die das der dem ein eine einen
    einem einer auf zu zugriff zugang von mit haben habe will mochte wollen benutzen verwenden nutzen brauche d
    de des du l la le les un une au aux acces utiliser veux avec el los las una unos acceso a al usar quiero con
    tengo utilizar
    da dan gibt gebt hat
    有 用 使用 需要 访问 获取 想 的 任何 模 型 访 问 获 取 计 算 任 何 到 需 要 使
    """
)
"""What may stand between a cue and the name it governs."""

HAVE = _set("have has with got given own possess habe haben mit avec avons ai con tengo tenemos 有 我有 拥有")
"""Cues that the asker has what is named next."""

NO_NAMES = _set(
    """
    vesselocclusion vesselsocclusion veinocclusion arteryocclusion arterialocclusion venousocclusion
    vascularocclusion
    coronaryocclusion bowelocclusion intestinalocclusion aorticocclusion carotidocclusion
    """
)
"""Findings that hold the name of a method, joined without spaces."""

CORRECTING = _set(
    """
    imean imeant meant sorry sorrymeant nowait wait oops correction makethat scratchthat orrather actually
    ichmeine ichmeinte meinte meine gemeint entschuldigung vielmehr bessergesagt halt pardon jeveuxdire
    jevoulaisdire
    ouplutot enfin perdon quierodecir quisedecir digo mejordicho obien omasbien 我是说
    应该是 不对 说错了 抱歉 更正 我的意思是
    """
)
"""Cues that what comes next replaces what was said just before, joined without spaces."""

NO = _set("no nope nein nee non 不 不对 不是")
"""What corrects when a comma follows: "MRI? No, CT"."""

BUT = _set("but aber mais pero 但 但是")
"""What may stand before such a cue in place of a pause."""

NOT_AFTER = re.compile(
    r"\W*(?:(?:is|are|was|were)\s+(?:not|no longer)|(?:is|are|was|were)n['’]?t)\s+(?:what\b|an? option|wanted"
    r"|allowed|possible"
    r"|an? choice|the (?:one|right))|\W*(?:is|are) (?:out of the question|ruled out|excluded|off the table)"
    r"|\W*(?:kommt|kommen) nicht in ?frage|\W*(?:scheidet|scheiden|fallt) (?:aus|weg)|\W*(?:ist|sind) nicht (?:was"
    r"|gewunscht|gemeint|erlaubt)"
    r"|\W*n['’]est pas (?:ce que|une option|possible)|\W*(?:est|sont) exclue?s?\b"
    r"|\W*no es (?:lo que|una opcion|posible)|\W*(?:esta|queda)n? descartad[oa]s?"
    r"|(?:不行|不可以|不能用|除外)"
)
"""What may follow a name to say that it is not wanted."""

UNAVAILABLE = _set(
    """
    unavailable inaccessible hidden impossible disabled blocked forbidden stripped deaktiviert gesperrt verboten
    desactive desactivado bloqueado bloque interdit unzuganglich unmoglich indisponible indisponibles inaccessibles
    imposible
    inaccesible inaccesibles 不可用 不可见 不可能
    """
)
AVAILABLE = UNAVAILABLE | _set(
    """
    available accessible exposed possible verfugbar zuganglich moglich disponible disponibles accesible accesibles
    posible
    shared released disclosed published provided given herausgegeben freigegeben veroffentlicht heraus preis
    frei raus
    bekannt known
    partages partagees fournis fournies compartidos compartidas 可用 可见 公开 提供 开放
    """
)
"""Words that say of the name before them whether it is at hand."""

BLACK_BOX = _set(
    """
    blackbox blackboxes apionly api apis restapi webservice webapi closedsource proprietary onnx onnxruntime
    tensorrt coreml openvino tflite modelagnostic inferenceonly forwardonly queryonly queryaccess gradientfree
    derivativefree nondifferentiable notdifferentiable closedsoftware closedvendor closedproduct closedsystem
    closedmodel
    vendorsoftware vendorproduct vendorsystem vendorblackbox commercialsoftware commercialproduct commercialsystem
    commercialtool commercialmodel commercialai commercialcad thirdpartysoftware thirdpartymodel apiaccess
    apiendpoint
    restendpoint cloudapi cloudservice cloudonly cloudhosted saas asaservice webinterface restservice httpapi
    webendpoint compiledmodel compiledbinary encryptedmodel executable
    schwarzekiste clouddienst enlanube geschlossenesoftware proprietar proprietare herstellersoftware
    blackboxmodell blackboxmodelle modellagnostisch modellagnostische boitenoire boitesnoires proprietaire
    logicielproprietaire logicielferme agnostiqueaumodele cajanegra cajasnegras modeloagnostico agnostico
    softwarecerrado propietario softwarepropietario
    黑盒 黑箱 黑匣子 云端 云服务 模型无关 接口 闭源 商业软件 无梯度 厂商软件
    """
)
"""Ways to say that only inputs and outputs of the model can be reached, joined without spaces."""

INSIDES = _set(
    """
    gradients gradient gradienten gradientes weights autograd checkpoint internals insides parameters layers
    activations
    backward
    backpropagation backprop backpropagate backpropagating differentiate featuremaps backpropagieren
    ruckpropagation gewichte gewichten innere poids couches pesos capas retropropagation
    retropropagacion
    权重 参数 内部 梯度 反向传播 反传 求导
    """
)
"""The inside of a model; to lack it makes the model a black box."""

ONLY_OUTPUTS = re.compile(
    r"\b(?:only|just|merely|nur|lediglich|seulement|uniquement|solo|solamente|unicamente)\s+(?:\w+\s+){0,5}?"
    r"(?:predictions?|outputs?|probabilit\w+|logits|scores?|vorhersagen?|ausgaben?|wahrscheinlichkeiten|sorties|"
    r"probabilites|predicciones|salidas?|probabilidades)\b"
    r"|\b(?:predictions?|outputs?|probabilities|scores?)[\s-]only\b"
    r"|\b(?:only|just)\s+(?:\w+\s+){0,4}?(?:predict|inference|docker|endpoint|executable|binary)\b"
    r"|\b(?:can(?:not|['’]?t)|unable to|no way to) (?:look|see|get|peek) (?:inside|into)\b"
    r"|\b(?:can(?:not|['’]?t)|unable to|not allowed to) (?:touch|open|modify|change|access|inspect|hook|instrument)"
    r" (?:\w+ )?(?:model|network|code|internals)\b"
    r"|\bsend\w* (?:\w+ ){0,4}and (?:\w+ ){0,2}(?:gets?|receives?) (?:\w+ ){0,3}(?:scores?|labels?|probabilit\w+"
    r"|outputs?)\b"
    r"|\bnur (?:\w+ ){0,4}(?:vorhersage|ausgabe|wahrscheinlichkeit|ergebnisse?)\b"
    r"|(?:只有|仅有|只能|仅能|只).{0,5}(?:预测|输出|概率)"
)

DIMENSIONS = {
    "2d": _set(
        """
        2d 2dimensional twodimensional singleslice slice slices slicewise slicebyslice zweidimensional
        2dimensionale schicht
        schichten coupe coupes bidimensionnel bidimensionnelle corte cortes bidimensional 二维 切片
        """
    ),
    "3d": _set(
        """
        3d 3dimensional threedimensional volume volumes volumetric volumetrics voxel voxels dreidimensional
        dreidimensionale dreidimensionalen volumen volumetrisch volumetrische volumetrique volumiques
        volumetriques tridimensionnel tridimensionnelle tridimensional volumetrico volumetrica 三维 立体 体积
        体数据 体素 zstack zstacks voxelwise volumendaten volumenbilder
        """
    ),
}

BUDGETS = {
    1.0: _set(
        """
        realtime instant instantly onthefly interactive interactively live echtzeit interaktiv tempsreel
        interactif tiemporeal interactivo
        sofort instantane instantanea instantaneo inmediato inmediata 实时 交互 即时 立即
        """
    ),
    10.0: _set(
        """
        fast quick quickly cheap lightweight schnell schnelle schnelles rapide rapides rapidement rapido rapida
        快速 快
        """
    ),
}
"""Seconds per explanation that a loose word stands for."""

_NUMBER_WORDS = """
    0.5: half|halfa|halbe|halben|eine halbe|einer halben|demi|une demi|media|medio|medio|半
    1: a|an|one|eine|einer|einem|ein|un|une|una|uno|一
    2: two|zwei|deux|dos|两|二
    3: three|drei|trois|tres|三
    4: four|vier|quatre|cuatro|四
    5: five|funf|cinq|cinco|五
    6: six|sechs|seis|六
    8: eight|acht|huit|ocho|八
    10: ten|zehn|dix|diez|十
    15: fifteen|funfzehn|quinze|quince|十五
    20: twenty|zwanzig|vingt|veinte|二十
    30: thirty|dreissig|trente|treinta|三十
    60: sixty|sechzig|soixante|sesenta|六十
"""
NUMBERS = {
    word: float(number)
    for number, words in (line.strip().split(": ") for line in _NUMBER_WORDS.strip().splitlines())
    for word in words.split("|")
}
"""Number words of a budget."""

_WORD = "|".join(sorted(NUMBERS, key=len, reverse=True))
_NUMBER = rf"(?:\d+\s*(?:-|–|to|or|bis|oder|a|ou|o|到)\s*)?(\d+(?:[.,]\d+)?|half an?|{_WORD})"
_UNIT = (
    r"(ms|milliseconds?|millisekunden?|millisecondes?|milisegundos?|毫秒|s|sec|secs|seconds?|sek|sekunden?|secondes?"
    r"|segundos?|秒钟?|min|mins|minutes?|minuten?|minutos?|分钟|h|hours?|std|stunden?|heures?|horas?|小时)(?![a-z])"
)
_AT_MOST = (
    r"(?:\b(?:(?:under|below|within|in|less than|at most|max|maximum|maximum of|up to|no more than|not more than"
    r"|no longer than|not longer than|faster than|shorter than|budget|budget of|budget is|limit|limit of|limit is"
    r"|have"
    r"|have only|only have|have about|got|unter|innerhalb|innerhalb von|weniger als|hochstens|maximal|langstens"
    r"|binnen"
    r"|habe|haben|moins de|au plus|au maximum|pas plus de|avons|menos de|dentro de|en|como maximo|como mucho"
    r"|a lo sumo"
    r"|latency|latency of|time limit|response time|response time of|deadline|deadline of|zeitlimit|zeitbudget"
    r"|zeitbudget von"
    r"|delai de|limite de|limite|presupuesto de|presupuesto|tiempo maximo de|maximo|maximo de|no mas de|tengo"
    r"|tenemos)\b|(?:moins|pas plus) d['’])|<=?|≤|不超过|少于|低于|不到|小于|最多|限时|控制在|预算)"
)
_AFTER = (
    r"(?:(?:per|/|for each|for one) ?(?:image|explanation|scan|case|slide|volume|frame|study|patient|exam|picture)"
    r"|each|at most"
    r"|or less|max|maximum|tops|limit|budget|(?:pro|je) (?:bild|aufnahme|fall|scan|volumen)|hochstens|maximal|maximum"
    r"|par (?:image|cas|volume|examen|coupe)|au (?:plus|maximum)|por (?:imagen|caso|volumen|estudio)|como (?:maximo"
    r"|mucho)"
    r"|(?:之|以)?内|一张|每张)"
)
_NOT_A_TIME = (
    r"(?!\s*(?:of|long|windows?|clips?|experiments?|steps?|stages?|phases?|readers?|opinions?|models?|networks?"
    r"|scans?|data\w*"
    r"|stud(?:y|ies)|sets?|tests?|trials?|rounds?|looks?|views?|sites?|cent(?:er|re)s?|hospitals?|annotators?"
    r"|radiologists?)\b)"
)
BUDGET = (
    re.compile(
        rf"{_AT_MOST}\s*[.:]?\s*(?:about |circa |ca\.? |etwa |environ |unos |~\s*)?{_NUMBER}\s*-?{_UNIT}{_NOT_A_TIME}"
    ),
    re.compile(rf"(?<![a-z]){_NUMBER}\s*-?{_UNIT}\s*(?={_AFTER})"),
)
"""Ways to say how long an explanation may take: number and unit are the groups."""


def seconds(number: str, unit: str) -> float:
    """Return a duration in seconds.

    Args:
        number: Digits with a point or comma, or a word of :data:`NUMBERS`.
        unit: A unit that :data:`BUDGET` finds.
    """
    value = float(number.replace(",", ".")) if number[0].isdigit() else NUMBERS[number.split(" a")[0]]
    if unit.startswith(("ms", "mil", "毫")):
        return value / 1000
    if unit.startswith(("min", "分")):
        return value * 60
    if unit.startswith(("h", "st", "小")):
        return value * 3600
    return value


INTRINSIC = _set(
    """
    intrinsic intrinsically interpretablebydesign explainablebydesign selfexplaining selfexplainable antehoc
    inherently inherentlyinterpretable retrain retraining trainanew builtin builtininterpretability
    interpretablemodel glassbox intrinsisch intrinsische selbsterklarend selbsterklarende neutrainieren
    intrinseque intrinseques autoexplicatif reentrainer intrinseco intrinseca autoexplicativo reentrenar
    内在可解释 自解释 重新训练
    """
)
"""The asker is ready to build the explanation into the model."""

DOMAIN = _set(
    """
    ai method methods methode methoden metodo metodos explain explainability explainable explainer explainers
    explaining explains explanation explanations interpret interpretability interpretable interpretation
    saliency heatmap heatmaps xai model models network networks classifier predictions prediction neural
    erklaren erklarung erklarungen erklarbar erklarbare erklarungsmethode modell modelle ki netz netzwerk
    expliquer explication explications explicabilite modele modeles reseau explicar explicacion explicaciones
    explicabilidad modelo modelos
    解释 可解释 模型 网络
    """
)
"""Words that show that a question is about explaining models at all."""

NAMES_THAT_ARE_WORDS = _set(
    """
    us pet mr rise oct ace tv cat mg pt nm cr dx ig dl scanner echo eco toe tee lus temp clip sam uni conch gat
    gloria dino
    anchors anchor causal clue craft density dice dime eva fem focus graphite hippo ice lear milan relax rex
    simplex single
    eg bt cw eb cot tis rap gig road roar green hive realism reco text selectivity influence sic ros cas cd cout aic
    cem gae
    inception flamingo mil
    """
)
"""Names that are words or other abbreviations in lower case.

They are taken only in capitals, or beside a word that supports them.
"""

ADDRESSED = _set("patient patients patientin patienten patientinnen patiente patientes paciente pacientes 患者 病人")
"""People who are in most questions; only "for patients" makes them the audience."""

ADDRESSING = _set("for to inform tell show reassure fur an den dem pour aux au para a al los informar 给 向 对 为 让")
"""What stands before them then, with an article between."""

ARTICLES = _set(
    "the a an my our their these meine meinen unsere unseren einen einem die den les un une los nos mes mis el la una"
)

PEOPLE_DO = re.compile(
    r"(?:can|could|should|will|would|also|often)*(?:understand|follow|ask|wonder|want|verst(?:eh|and)|frag|wollen"
    r"|compren|demand"
    r"|veulent|entend|entiend|pregunt|quieren)|能?理解|能?看懂|能懂|问|想知道"
)
"""What people do after "patients" when they are the audience, joined without spaces."""

FRENCH_ARTICLES = _set("le un au du par de des les aux d l sur ce cet cette mes nos ses leurs")
"""What stands before "scanner" where it means CT."""

SUPPORT = _set(
    """
    image images imaging scan scans slice slices classifier video clip clips loop loops view views study studies
    volume volumes data frame frames video videos probe examination
    exam machine scanner bild bilder aufnahmen examen imagen imagenes
    """
)
"""Words after a short name that make it a modality even in lower case ("us images")."""


def _cues(text: str) -> re.Pattern[str]:
    """One pattern of alternatives, one a line, on folded text; a line that begins with "|" goes on with the last."""
    return re.compile("|".join(line.strip() for line in text.strip().splitlines()).replace("||", "|"))


_IT = (
    r"(?:model|network|net|it|ai|algorithm|cnn|classifier|detector|u-?net|transformer|vit|resnet|system|machine"
    r"|software)"
)
_THING = r"(?:heat-?maps?|maps?|explanations?|saliency|attributions?|explainers?|visuali[sz]ations?)"

GOALS = {
    "where": _cues(
        rf"""
        \b(?:is|are|does|do|did|was|whether|if)\b[^.?!]{{0,20}}\b{_IT}\b (?:\w+ )?(?:look(?:s|ed|ing)?|focus\w*
        |attend\w*) (?:at|on|to)\b
        \b(?:schaut|blickt|achtet|fokussiert)\b (?:\w+ ){{0,5}}auf\b
        \bregarde(?:-t-(?:il|elle))?\b (?:vraiment |bien )?(?:la|le|les)\b
        \b(?:modelo|red|ia|algoritmo) (?:\w+ )?(?:mira|se fija|se centra)\b
        \b(?:what|where)\b[^.?!]{{0,40}}\b{_IT}\b[^.?!]{{0,25}}\b(?:look(?:s|ed|ing)?(?! like)|focus\w*|attend\w*
        |pay\w* attention)\b
        \b(?:looks?|looked|looking|focus\w*|attends?|attending) (?:at|on|to) (?:the right|the correct|the actual
        |in the image)\b
        \b(?:worauf|wohin|wo)\b[^.?!]{{0,40}}\b(?:schaut|schauen|achtet|blickt|hinschaut|hinsieht|fokussiert
        |konzentriert|guckt|sieht)\b
        \b(?:ou|que|quoi)\b[^.?!]{{0,12}}\b(?:regarde(?:nt)?|se concentre(?:nt)?|se focalise(?:nt)?)\b
        \b(?:donde|en que|que)\b[^.?!]{{0,15}}\b(?:mira|miran|se fija|se fijan|se centra|se enfoca|esta mirando)\b
        (?:看|关注|注意)(?:的|到|了|着|的是)*(?:哪|什么地方|什么位置|什么区域)|(?:看|关注)的是什么
        """
    ),
    "which_concept": _cues(
        r"""
        \bwhich (?:\w+ ){0,2}(?:concepts|features|attributes|criteria|findings|signs|characteristics|properties
        |biomarkers)\b
        \b(?:welche[nrs]?) (?:\w+ ){0,2}(?:konzepte|merkmale|kriterien|eigenschaften|befunde)\b
        \bquel(?:le)?s (?:\w+ ){0,1}(?:concepts|criteres|signes|caracteristiques|attributs)\b
        \bque (?:\w+ ){0,1}(?:conceptos|criterios|signos|caracteristicas|rasgos|atributos|hallazgos)\b
        (?:哪些|什么|哪个)(?:临床|医学|影像|形态)?(?:概念|特征|征象|标准)
        """
    ),
    "like_what": _cues(
        r"""
        \bresembl\w*|\bahnel(?:t|n)\b|\bressembl\w*|\bse parecen?\b|(?:最|很)像|像(?:哪|什么)
        \bthis looks like that\b
        \b(?:similar|comparable|nearest|closest|look-?alike) (?:\w+[ -]){0,3}(?:cases?|images?|patients?|examples?
        |scans?|slides?|exams?|lesions?|x-rays?|mammograms?|neighbou?rs?)\b
        \b(?:cases?|images?|patients?|examples?|scans?|slides?|lesions?)(?: \w+){0,3} (?:that |which )?(?:looks?
        |looked|are|is) (?:\w+ ){0,2}(?:like\b|alike\b|similar\b)
        \b(?:ahnlich|vergleichbar)\w* (?:\w+ ){0,2}(?:falle?n?|bildern?|patient\w*|aufnahmen?|beispiele?
        |schnitte?)\b
        \b(?:cas|images?|exemples?|patients?|lames?)(?: \w+){0,2} (?:similaires?|semblables?|comparables?|proches?
        |analogues?)\b
        \b(?:casos?|imagen(?:es)?|ejemplos?|pacientes?)(?: \w+){0,2} (?:similar(?:es)?|parecid[oa]s?|semejantes?
        |comparables?)\b
        (?:相似|类似|相近|典型)的?(?:既往|训练|历史)?(?:病例|图像|案例|病人|患者|样本|例子|影像|切片)
        """
    ),
    "what_would_change": _cues(
        r"""
        \bhow (?:would|could|might|should)\b[^.?!]{0,40}\b(?:look|appear|change|have to)\b
        \bwhat\b[^.?!]{0,40}\b(?:would|must|needs? to|has to|have to|had to|could
        |should)\b[^.?!]{0,40}\b(?:changed?|different|flip\w*|turn\w*|alter\w*|modif\w*)\b
        \b(?:flip|flips|flipping|changes?|changing|alters?|altering|turn|turns|overturn|reverse
        |switch)\b[^.?!]{0,25}\b(?:decision|prediction|diagnosis|output|verdict|result|call|label)\b
        \b(?:smallest|minimal|minimum|least|tiny) (?:\w+ )?(?:change|edit|modification|alteration)s?\b
        \bfrom (?:sick|diseased|malignant|abnormal|positive|pathological) to (?:healthy|benign|normal|negative)\b
        \bwhat if\b
        \bwas\b[^.?!]{0,30}\b(?:andern|anders|verandern)\b
        \b(?:que|quoi)\b[^.?!]{0,30}\b(?:changer|changerait|modifier|modifie)\b
        \bque\b[^.?!]{0,30}\b(?:cambiar|cambiara|cambiase|cambie|cambiaria|modificar)\b
        (?:怎样|怎么|如何|什么|哪里|哪些)[^。？]{0,12}(?:改变|变成|变为|翻转)
        """
    ),
    "uncertainty": _cues(
        rf"""
        \b(?:{_IT}|model's|its)\b (?:\w+ )?(?:is|are|was|gets|feels|seems|becomes) (?:\w+ )?(?:un)?(?:sure|certain
        |confident)\b
        \b(?:guessing|just guess(?:es)?|abstain\w*|over-?confiden\w*|under-?confiden\w*)\b
        \b(?:modell|netz|ki|vorhersage|segmentierung)\b[^.?!]{{0,20}}\b(?:unsicher|zweifelt)
        \b(?:modele|reseau|ia)\b[^.?!]{{0,15}}\b(?:hesite|incertaine?|doute)\b
        \b(?:modelo|red|ia)\b[^.?!]{{0,15}}\b(?:duda|insegur[oa])\b
        (?:模型|网络|ai)[^。？]{{0,4}}(?:没把握|拿不准)
        \b(?:which|where)\b[^.?!]{{0,25}}\b(?:unsure|uncertain|unreliable|doubtful|shaky|untrustworthy)\b
        \bhow (?:\w+ )?(?:sure|certain|uncertain|confident|unsure)\b
        \b(?:is|are|am) (?:the |my |our |this )?{_IT} (?:\w+ )?(?:sure|certain|confident|unsure|uncertain)\b
        \bhow much (?:can|should|do) (?:i|we|you|one|they) trust (?:the |this |its |each )?(?:\w+ )?(?:prediction
        |output|result|segmentation|diagnosis|contour|score)\b
        \b(?:wie|ob)\b[^.?!]{{0,20}}\b(?:un)?sicher\b[^.?!]{{0,30}}\b(?:ist|sind|sich)\b|\bwie (?:un)?sicher\b
        \b(?:a quel point|est|suis)\b[^.?!]{{0,25}}\bsure?s?\b
        \b(?:que tan|cuan|como de|tan)\b[^.?!]{{0,12}}\bsegur[oa]s?\b
        (?:多|有多|多么)(?:确定|肯定|自信|确信|有把握)
        """
    ),
    "which_modality": _cues(
        r"""
        \bhow much\b[^.?!]{0,60}\b(?:contribut\w*|count\w*|matter\w*|adds?|weigh\w*)\b
        \b(?:contributions?|importance|weight|influence|share) of (?:each|every|the|single|individual
        |all) (?:\w+ ){0,2}(?:modalit(?:y|ies)|sequences?|channels?|views?|inputs?|contrasts?|phases?)\b
        \bwhich (?:of (?:the|these|my|our) )?(?:\w+ ){0,2}(?:sequences?|modalit(?:y|ies)|channels?|views?|inputs?
        |contrasts?|phases?)\b
        \bwelche[rs]? (?:\w+ ){0,2}(?:sequenz(?:en)?|modalitat(?:en)?|kanal|kanale|eingabe|ansicht)\b
        \bquelles? (?:\w+ ){0,2}(?:sequences?|modalites?|canal|canaux|entrees?)\b
        \bque (?:\w+ )?(?:secuencias?|modalidad(?:es)?|canal(?:es)?|entradas?)\b
        (?:哪|每)(?:一|种|个|些)*(?:输入)?(?:模态|序列|通道)|(?:模态|序列|通道)[^。？]{0,8}(?:贡献|重要|权重)
        """
    ),
    "text": _cues(
        r"""
        \bin (?:plain|simple|clear|everyday|lay|normal|natural|human|easy|ordinary|own|a few) (?:words?|terms?
        |language|english|sentences?|speech|prose)\b
        \bin (?:words|sentences|prose|writing)\b
        \b(?:written|verbal|textual|worded|spoken)(?: out)? (?:explanations?|justifications?|rationales?|reasons?
        |descriptions?)\b
        \bin (?:\w+ )?(?:worten|satzen|textform|sprache)\b
        \ben (?:mots|langage|langue|phrases|toutes lettres)\b|\bavec des (?:mots|phrases)\b
        \b(?:en|con) (?:palabras|frases|lenguaje)\b
        用(?:一)?(?:简单|通俗|自然)?的?(?:文字|语言|话|句子)
        """
    ),
    "evaluate_maps": _cues(
        rf"""
        \b(?:evaluat|measur|quantif|validat|verif|assess|judg|test|check|benchmark|scor|rank)(?:e|es|ed|ing|y|ies
        |s)?\b[^.?!]{{0,30}}\b{_THING}\b
        \b(?:is|are|was|were)\b (?:this|these|those|the|my|our|such
        |its) (?:\w+ ){{0,2}}{_THING}(?: \w+){{0,3}} (?:correct|right|faithful|trustworthy|reliable|accurate|valid
        |meaningful|good|plausible|true|honest|stable)\b
        \b(?:can|should|may|do) (?:i|we|you|they|one) (?:really )?(?:trust|believe|rely on) (?:this|these|those|the
        |my|our|such|its) (?:\w+ ){{0,2}}{_THING}\b
        \bhow (?:good|correct|right|faithful|trustworthy|reliable|accurate|valid|stable|robust) (?:is|are) (?:this
        |these|those|the|my|our|such|its) (?:\w+ ){{0,2}}{_THING}\b
        \bhow (?:do|can|would|could|should) (?:i|we|you|one) (?:know|tell|see|be sure) (?:if|whether
        |that) [^.?!]{{0,30}}{_THING}\b
        \b(?:uber)?(?:pruf|bewert|beurteil|mess|validier|evaluier|test|vergleich)\w*\b[^.?!]{{0,30}}\b(?:heatmaps?
        |erklarung(?:en)?
        |(?:salienz|relevanz|warme|hitze)?karten?)\b
        \b(?:heatmaps?|erklarung(?:en)?|(?:salienz|relevanz|warme|hitze)karten?)\b[^.?!]{{0,30}}\b(?:prufen
        |uberprufen|bewerten
        |beurteilen|validieren|evaluieren|zuverlassig|verlasslich|vertrauenswurdig|korrekt|richtig|treu|stimmen
        |stimmt)\b
        \b(?:evalu|verifi|valid|mesur|jug|test|controler)\w*\b[^.?!]{{0,30}}\b(?:explications?|heatmaps?
        |cartes? de (?:chaleur|saillance))\b
        \b(?:explications?|heatmaps?|cartes? de (?:chaleur|saillance))\b[^.?!]{{0,25}}\b(?:fiables?|fideles?
        |correctes?|justes?)\b
        \b(?:evalu|verific|valid|medir|mido|comprob|juzg)\w*\b[^.?!]{{0,30}}\b(?:explicaci\w+|heatmaps?
        |mapas? de (?:calor|saliencia))\b
        \b(?:explicaci\w+|heatmaps?|mapas? de (?:calor|saliencia))\b[^.?!]{{0,25}}\b(?:fiables?|fieles?
        |correct[oa]s?|confiables?)\b
        (?:验证|评估|评价|检验|衡量|检查|测试|度量)[^。？]{{0,12}}(?:热力?图|解释|显著|归因)
        |(?:热力?图|解释|显著图|归因)[^。？§]{{0,8}}(?:是否|靠谱|可信|可靠|准确|正确|忠实)
        \bsanity[- ]checks?\b|\brandomi[sz]ation tests?\b
        """
    ),
    "debug": _cues(
        r"""
        \b(?:cheat|cheats|cheating|spurious\w*|shortcuts?|clever[- ]hans|confound\w*)\b
        \bwhy\b[^.?!]{0,40}\b(?:fail|fails|failed|failing|wrong|misclassif\w*|mistakes?|errors?
        |false (?:positives?|negatives?))\b
        \b(?:rel(?:y|ies|ied|ying)|depend\w*|based|pick\w* up|latch\w*|look\w*|read\w*|us(?:e|es|ing)|learn\w*
        |exploit\w*
        |focus\w*|sees?|saw|attend\w*)\b[^.?!;]{0,45}\b(?:artefacts?|artifacts?|markers?|rulers?|calipers?
        |watermarks?|logos?
        |hair|background|borders?|corners?|labels?|tags?|tokens?|annotations?|stickers?|letters?|ink|pen marks?
        |(?:scanner|burn(?:ed|t)[ -]in|embedded|overlaid|image) text|text markers?|tubes?|drains?|bandages?
        |pacemakers?)\b
        \b(?:right|wrong) (?:answers? |predictions? )?(?:for the )?(?:right |wrong )?reasons?\b
        \b(?:warum|wieso|weshalb)\b[^.?!]{0,40}\b(?:falsch|fehler|scheitert|irrt|versagt)\b
        \bpourquoi\b[^.?!]{0,40}\b(?:trompe|echoue|erreurs?|faux)\b
        \bpor que\b[^.?!]{0,40}\b(?:falla|fallan|equivoca|errores?|error)\b
        为什么[^。？]{0,12}(?:错|失败|误判|出错)
        """
    ),
}
"""Turns of phrase for a goal that no fixed name covers; read on folded text, from what names have left."""

ALTERNATIVES = re.compile(
    r"\b(?:or|vs|versus|oder|ou|o|u|better|worse|best|compar\w*|differ\w*|prefer\w*|outperform\w*|beats?|than"
    r"|pros and cons|besser"
    r"|beste[nrs]?|vergleich\w*|unterschied\w*|mieux|meilleure?s?|difference|mejor(?:es)?|diferencia\w*|entre"
    r"|between|against"
    r"|which one|gegen|contra|contre)\b|还是|哪个|哪一个|哪种|更好|比较|对比|相比|区别|优缺点|或"
)
"""Words that set two named methods against each other."""

_TRUST = r"(?:trust|rely on|depend on|believe|use|recommend|apply|prefer|go (?:with|for)|suggest|deploy|present|show)"
_GOOD = (
    r"(?:reliab\w*|trust\w*|good|bad|any good|valid|faithful\w*|accurate|robust\w*|stable|suitable|suited"
    r"|appropriate|ok|okay|useful|safe"
    r"|worth\w*|meaningful|sound|credible|sensible|recommended|enough|sufficient|wise|helpful|misleading|plausible"
    r"|correct|flawed|adequate"
    r"|overrated|acceptable|usable|justified|fit|legit|convincing)"
)
JUDGING = _cues(
    rf"""
    (?<!what )(?<!how )(?<!which )(?<!where )\b(?:is|are|was|isn['’]?t|aren['’]?t)\s+(?:it (?:\w+ )?to (?:trust|use
    |rely on|apply) )?(?:the |a |plain |vanilla |using |applying )?§
    (?<!how )(?<!how to )\b(?:does|do|can|could|will|would|doesn['’]?t)\s+(?:the )?§[^.?!;]*\b(?:work|works|help
    |suit|fit|make sense|hold|apply|reflect|tell|show|highlight|capture|explain|handle|find|localis\w+|localiz\w+
    |be trusted|be used|be relied|be applied)\b
    \b(?:can|could|should|may|shall|do|would|dare) (?:i|we|you|one|they|radiologists|clinicians|doctors
    |pathologists) (?:\w+ )?{_TRUST}\s+(?:the |a |on |plain )?(?:\w+ )?§
    \bhow (?:well|good|reliable|trustworthy|faithful|robust|accurate|useful|valid|stable|suitable|safe|bad|credible
    |sound)\b[^.?!;]*§
    \b(?:what|anything|something)\b[^.?!;]{{0,20}}\b(?:wrong|problems?|limitations?|weakness\w*|drawbacks?
    |downsides?|issues?|criticis\w*|caveats?|speaks|known|evidence|against|say\w*|think)\b[^.?!;]*§
    \b(?:why|why is it) not (?:use |just |simply |go with )*§|\bwhy (?:shouldn['’]?t|should) (?:i|we|one
    |you) (?:not )?(?:just |simply )?(?:use |apply |trust |recommend )*§
    §\W{{0,3}}(?:(?:a |any |really |that )*{_GOOD}(?: idea| choice| enough)?|yes or no|pros and cons
    |worth it)\b(?! alternative)
    \b(?:reliability|validity|trustworthiness|faithfulness|fidelity|robustness|quality|accuracy|usefulness
    |limitations|limits|weaknesses|drawbacks|downsides|strengths|pros and cons|advantages|disadvantages|evidence
    |criticism|opinions?|thoughts|caveats|problems|pitfalls|experiences?)\b (?:\w+ )?(?:of|on|about|for|against
    |with|behind)(?: the| using)? §
    \b(?:ist|sind|taugt|taugen|eignet sich|eignen sich|funktioniert|funktionieren|hilft|bringt|lohnt sich|stimmt
    |passt)\s+(?:denn |das |die )?§
    \bwie (?:gut|zuverlassig|verlasslich|treu|robust|aussagekraftig|vertrauenswurdig|sinnvoll|geeignet|genau
    |brauchbar|sicher)\b[^.?!;]{{0,40}}§
    \b(?:kann|darf|soll|sollte|konnen|sollten|durfen)\s+(?:ich|man|wir)\b[^.?!;]{{0,30}}§[^.?!;]*\b(?:trauen
    |vertrauen|verlassen|nutzen|verwenden|nehmen|einsetzen|glauben|empfehlen|anwenden)
    \bwarum (?:nicht|kein) §|\bwas (?:spricht|taugt|halt|haltst|halten)\b[^.?!;]{{0,25}}§|\b(?:zuverlassigkeit
    |nachteile|schwachen|grenzen|vorteile|verlasslichkeit|aussagekraft) (?:von|der|des) §
    §[^.?!;§]{{0,40}}\b(?:reliable|trustworthy|any good|suitable|faithful|valid|a good (?:choice|idea|fit)
    |worth (?:it|using|trying)
    |zuverlassig|verlasslich|geeignet|sinnvoll|brauchbar|vertrauenswurdig|fiables?|fideles?|utiles?|valables?
    |adapte|confiables?
    |adecuad[oa]|recomendable)\b
    §\s+(?:es|son|sirve|sirven|funciona|funcionan|vale)\b
    §\s+(?:uberhaupt |wirklich )?(?:zuverlassig|verlasslich|geeignet|sinnvoll|brauchbar|vertrauenswurdig|gut)
    §,?\s*(?:est|sont|marche|fonctionne|convient)\b|\best[- ]ce que §|\bpeut-?\s?on\b[^.?!;]{{0,40}}§
    |\bque vau[tx]\b[^.?!;]{{0,10}}§|\bpourquoi (?:ne )?pas (?:utiliser )?§|\b(?:fiabilite|limites|faiblesses
    |qualite|inconvenients|avantages) (?:de|du|d['’]) ?(?:la )?§|\bfaut-il\b[^.?!;]{{0,30}}§
    |\bpuis-je\b[^.?!;]{{0,40}}§
    \b(?:es|son|sirve|sirven|funciona|funcionan|vale|conviene|resulta)\b[^.?!;]{{0,25}}§
    |\bque tal\b[^.?!;]{{0,20}}§|\b(?:se puede|puedo|podemos|debo|deberia)\b[^.?!;]{{0,30}}§
    |\bpor que no (?:usar )?§|\b(?:fiabilidad|limitaciones|desventajas|ventajas|calidad|problemas) (?:de|del|con) §
    §[^。？！.?!]{{0,25}}(?:可靠|可信|好吗|好用|有效|靠谱|合适|适合|行吗|怎么样|准确|能用|有用|如何)|(?:能|可以|应该|该)不?(?:能|可以)?(?:信任|相信|使用|用|信)§
    |为什么不(?:使)?用?§|§的?(?:缺点|局限|可靠性|优缺点|问题)
    """
)
"""Turns of phrase that ask whether the one method § is good."""
